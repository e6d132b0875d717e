// `ukehi snapshot inspect`: what a snapshot says of itself, without reading all of it.

import ArgumentParser
import UkehiBase
import UkehiState

extension SnapshotCommand {
    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what a snapshot is of, its frames and their sizes.",
            discussion: """
                Reads the header, the first frame and the other frames' headers; verify checks all.

                EXAMPLES
                  ukehi snapshot inspect region.snapshot
                  ukehi snapshot inspect region.snapshot --json | jq 'select(.type == "frame")'
                """)

        @OptionGroup var snapshot: SnapshotOptionGroup
        @Option(help: "So many frames in the list; --json has all of them.") var top = 10

        func validate() throws {
            if top < 0 { throw ValidationError("--top \(top): allowed is 0 and up") }
        }

        func run() throws {
            try snapshot.withFile { file in
                let reader = try SnapshotFileReader(file)
                let progress = ProgressLine("reading")
                var frames: [SnapshotFrameInfo] = []
                var state: RegionState?
                var problem: SnapshotError?
                do throws(SnapshotError) {
                    if let first = try reader.next() {
                        state = first.state
                        frames.append(first.info)
                    }
                    while let info = try reader.skipFrame() {
                        frames.append(info)
                        progress.show(reader.offset, of: reader.fileBytes)
                    }
                } catch {
                    problem = error
                }
                progress.end()
                if snapshot.json {
                    printObjects(reader, state, frames, problem)
                } else {
                    printLines(reader, state, frames)
                }
                try fail(problem, saidInJSON: snapshot.json)
            }
        }

        private func printLines(
            _ reader: SnapshotFileReader, _ state: RegionState?, _ frames: [SnapshotFrameInfo]
        ) {
            for line in lines(of: reader.header, state) { printLine(line) }
            let totals = reader.totals
            printLine(
                "\(totals.frames) frames with \(totals.keys(besides: state)) keys, "
                    + sizeText(raw: totals.rawBytes, stored: reader.fileBytes))
            guard top > 0, !frames.isEmpty else { return }
            var table = TextTable([
                ("FRAME", .right), ("OFFSET", .right), ("RECORDS", .right), ("RAW", .right),
                ("STORED", .right), ("RATIO", .right),
            ])
            for frame in frames.prefix(top) {
                table.append([
                    "\(frame.number)", "\(frame.offset)", "\(frame.records)",
                    byteText(UInt64(frame.rawBytes)), byteText(UInt64(frame.storedBytes)),
                    BenchFormat.ratio(Double(frame.storedBytes) / Double(frame.rawBytes)),
                ])
            }
            for line in table.lines { printLine("  " + line) }
            if frames.count > top { printLine("  and \(frames.count - top) more") }
        }

        private func printObjects(
            _ reader: SnapshotFileReader, _ state: RegionState?, _ frames: [SnapshotFrameInfo],
            _ problem: SnapshotError?
        ) {
            for frame in frames {
                printLine(
                    JSONValue.object([
                        ("type", .string("frame")), ("frame", number(frame.number)),
                        ("offset", number(frame.offset)), ("records", .int(frame.records)),
                        ("raw_bytes", .int(frame.rawBytes)),
                        ("stored_bytes", .int(frame.storedBytes)),
                    ]).text)
            }
            let totals = reader.totals
            printLine(
                JSONValue.object(
                    [("type", .string("snapshot"))] + fields(of: reader.header, state) + [
                        ("frames", number(totals.frames)),
                        ("keys", number(totals.keys(besides: state))),
                        ("raw_bytes", number(totals.rawBytes)),
                        ("stored_bytes", number(totals.storedBytes)),
                        ("file_bytes", number(reader.fileBytes)),
                        ("problem", problemObject(problem)),
                    ]
                ).text)
        }
    }
}
