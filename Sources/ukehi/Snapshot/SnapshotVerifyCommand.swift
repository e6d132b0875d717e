// `ukehi snapshot verify`: every check there is, and what is lost where one fails.

import ArgumentParser
import UkehiBase
import UkehiState

extension SnapshotCommand {
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check every byte; exit code 0 if a node could use it, 20 if not.",
            discussion: """
                On damage it names frame and offset, and how much is lost with them. A snapshot \
                counts as a whole or not at all: what is sound in a damaged one is told, but no \
                node takes it. The digest of a sound one is over all keys, values and versions: two \
                snapshots of a region with one digest hold the same.

                EXAMPLES
                  ukehi snapshot verify region.snapshot
                  ukehi snapshot verify region.snapshot --json | jq .lost_frames
                """)

        @OptionGroup var snapshot: SnapshotOptionGroup

        func run() throws {
            try snapshot.withFile { file in
                let progress = ProgressLine("verifying")
                let report = SnapshotReport.verify(file) { progress.show($0, of: $1) }
                progress.end()
                if snapshot.json {
                    printLine(object(of: report).text)
                } else {
                    for line in lines(of: report) { printLine(line) }
                }
                try fail(report.problem, saidInJSON: snapshot.json)
            }
        }

        private func lines(of report: SnapshotReport) -> [String] {
            guard let header = report.header else { return ["nothing can be read"] }
            var lines = [
                "region \(header.region.rawValue) at index \(header.index), term \(header.term): "
                    + "\(report.soundFrames) sound frames with \(report.soundPairs) keys, "
                    + sizeText(raw: report.rawBytes, stored: report.storedBytes)
            ]
            for lost in report.lostFrames {
                lines.append(
                    "lost: frame \(lost.number) at offset \(lost.offset), \(lost.records) records")
            }
            if let lostFrom = report.lostFrom {
                lines.append("lost: all from frame \(lostFrom) on, if there was more")
            }
            if let digest = report.digest { lines.append("digest \(text(of: digest))") }
            if report.problem == nil { lines.append(ink("sound", .green)) }
            return lines
        }

        private func text(of digest: StateDigest) -> String { hex(digest.high) + hex(digest.low) }

        private func object(of report: SnapshotReport) -> JSONValue {
            let header = report.header.map { fields(of: $0, report.state) } ?? []
            return .object(
                [("sound", .bool(report.problem == nil))] + header + [
                    ("sound_frames", number(report.soundFrames)),
                    ("sound_keys", number(report.soundPairs)),
                    ("raw_bytes", number(report.rawBytes)),
                    ("stored_bytes", number(report.storedBytes)),
                    ("file_bytes", number(report.fileBytes)),
                    (
                        "lost_frames",
                        .array(
                            report.lostFrames.map {
                                .object([
                                    ("frame", number($0.number)), ("offset", number($0.offset)),
                                    ("records", .int($0.records)),
                                ])
                            })
                    ),
                    ("lost_from_frame", report.lostFrom.map(number) ?? .null),
                    ("problem", problemObject(report.problem)),
                    ("digest", report.digest.map { .string(text(of: $0)) } ?? .null),
                ])
        }
    }
}
