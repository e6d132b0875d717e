// `ukehi wal diff`: whether two nodes' logs agree.

import ArgumentParser
import UkehiBase
import UkehiPOSIX
import UkehiWAL

extension WALCommand {
    struct Diff: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare two nodes' logs; exit code 1 if a committed entry differs.",
            discussion: """
                Each region that both logs have is compared over the indexes that both hold, by term, \
                kind and checksum; the first difference is shown. It ends with exit code

                  0   if nothing differs, or only entries that are not committed on both nodes: what an \
                old leader left behind, which the next leader mends
                  1   if entries differ that both logs say are committed, or that have one index and \
                term but not the same bytes: neither may ever be
                  20  if one of the logs is damaged

                A region in one log only, or a log that is longer or compacted further, is no \
                difference: it is told.

                EXAMPLES
                  ukehi wal diff ./node-1 ./node-2
                  ukehi wal diff ./node-1 ./node-2 --json | jq 'select(.verdict != "equal")'
                """)

        @Argument(help: ArgumentHelp("A node's data or wal directory.", valueName: "A"))
        var first: String
        @Argument(help: ArgumentHelp("Another node's.", valueName: "B")) var second: String
        @Flag(help: "JSON, one object per line.") var json = false
        @Flag(help: "Show regions that are equal, too.") var all = false

        func validate() throws {
            for directory in [first, second] where !POSIXFileSystem().exists(directory) {
                throw ValidationError("there is no directory \(directory)")
            }
        }

        func run() throws {
            let progress = ProgressLine("reading")
            let files = POSIXFileSystem()
            let report = WALInspector(fileSystem: files, directory: first, progress).diff(
                with: WALInspector(fileSystem: files, directory: second, progress))
            progress.end()
            if json {
                for object in objects(of: report) { printLine(object.text) }
            } else if report.problem == nil {
                for line in lines(of: report, all: all) { printLine(line) }
            }
            try fail(report.problem, saidInJSON: json)
            guard !report.isBroken else {
                throw Failure(
                    status: ExitStatus.failure,
                    message: json ? "" : "the logs differ where they must not")
            }
        }
    }
}

private func lines(of report: WALInspector.DiffReport, all: Bool) -> [String] {
    var lines: [String] = []
    for diff in report.regions where all || diff.verdict != .equal {
        switch diff.verdict {
        case .equal:
            lines.append("\(diff.region)  equal  \(overlapText(diff))")
        case .uncommitted:
            lines.append(
                "\(diff.region)  " + ink("differs, not committed on both", .yellow)
                    + "  \(differenceText(diff))")
        case .committed:
            lines.append(
                "\(diff.region)  " + ink("DIFFERS WHERE IT MUST NOT", .red)
                    + "  \(differenceText(diff))")
        }
    }
    for (name, regions) in [("A", report.onlyInFirst), ("B", report.onlyInSecond)]
    where !regions.isEmpty {
        let shown = regions.prefix(20).map { "\($0)" }.joined(separator: ", ")
        let more = regions.count > 20 ? " and \(regions.count - 20) more" : ""
        lines.append("only in \(name): \(shown)\(more)")
    }
    let equal = report.regions.count { $0.verdict == .equal }
    lines.append(
        "\(equal) of \(report.regions.count) regions equal; \(report.comparedEntries) entries "
            + "compared")
    return lines
}

private func overlapText(_ diff: WALInspector.RegionDiff) -> String {
    diff.overlap.isEmpty
        ? "no common entries"
        : "entries \(diff.overlap.lowerBound) to \(diff.overlap.upperBound - 1)"
}

private func differenceText(_ diff: WALInspector.RegionDiff) -> String {
    func text(_ digest: WALInspector.EntryDigest?) -> String {
        guard let digest else { return "nothing" }
        return "term \(digest.term), \(digest.kind), \(digest.bytes) bytes, checksum "
            + hex(digest.checksum)
    }
    let index = diff.index.map { "\($0)" } ?? "-"
    let commits = diff.commits.map { "\($0)" }.joined(separator: " and ")
    return "entry \(index): A \(text(diff.first)); B \(text(diff.second)); committed up to "
        + commits
}

private func objects(of report: WALInspector.DiffReport) -> [JSONValue] {
    func object(of digest: WALInspector.EntryDigest?) -> JSONValue {
        guard let digest else { return .null }
        return .object([
            ("term", number(digest.term.rawValue)), ("kind", .string("\(digest.kind)")),
            ("bytes", .int(digest.bytes)), ("checksum", .string(hex(digest.checksum))),
        ])
    }
    var objects: [JSONValue] = report.regions.map { diff in
        .object([
            ("type", .string("region")), ("region", number(diff.region.rawValue)),
            ("verdict", .string(diff.verdict.rawValue)),
            ("overlap_first", diff.overlap.isEmpty ? .null : number(diff.overlap.lowerBound)),
            ("overlap_last", diff.overlap.isEmpty ? .null : number(diff.overlap.upperBound - 1)),
            ("index", diff.index.map { number($0.rawValue) } ?? .null),
            ("a", object(of: diff.first)), ("b", object(of: diff.second)),
            ("commits", .array(diff.commits.map { number($0.rawValue) })),
            ("last_indexes", .array(diff.lastIndexes.map { number($0.rawValue) })),
        ])
    }
    objects.append(
        .object([
            ("type", .string("log")), ("regions", .int(report.regions.count)),
            ("entries", number(report.comparedEntries)),
            ("only_in_a", .array(report.onlyInFirst.map { number($0.rawValue) })),
            ("only_in_b", .array(report.onlyInSecond.map { number($0.rawValue) })),
            ("equal", .bool(!report.isBroken && report.problem == nil)),
            ("problem", problem(report.problem)),
        ]))
    return objects
}
