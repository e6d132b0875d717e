// `ukehi wal`: what a node has on disk. Reads only, takes no lock, needs no key.

import ArgumentParser
import UkehiBase
import UkehiPOSIX
import UkehiWAL

struct WALCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wal",
        abstract: "Inspect a node's log; works beside a running node.",
        discussion: """
              ukehi wal dump ./data --limit 20
              ukehi wal dump ./data --json --region 2 --from 100
              ukehi wal verify ./data
              ukehi wal audit ./data --json

            DIR is a node's data directory or the wal directory in it. Keys and values are shown as
            lengths and checksums, never as such. The bytes are described in docs/FORMATS.md.
            """,
        subcommands: [Dump.self, Verify.self, Audit.self])
}

/// What every `wal` command takes.
struct LogOptions: ParsableArguments {
    @Argument(
        help: ArgumentHelp("A node's data directory, or its wal directory.", valueName: "DIR"))
    var directory: String

    @Flag(help: "JSON, one object per line.") var json = false

    func validate() throws {
        guard POSIXFileSystem().exists(directory) else {
            throw ValidationError("there is no directory \(directory)")
        }
    }

    var inspector: WALInspector {
        WALInspector(fileSystem: POSIXFileSystem(), directory: directory)
    }
}

extension Failure {
    /// A log's error with its place and exit code; no log there is a usage error.
    init(_ error: WALError) {
        let place = error.position.map { " (\($0))" } ?? ""
        self.init(
            status: error.code == .unavailable ? ExitStatus.usage : error.code.exitCode,
            message: error.message + place)
    }
}

extension WALCommand {
    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print what is in each segment, in log order.",
            discussion: """
                Superseded entries are shown too: what counts is said by `ukehi wal audit`.
                A frame holds one group commit: the batches of many regions under one sync.
                """)

        @OptionGroup var log: LogOptions
        @Option(help: "Only this region.") var region: UInt64?
        @Option(help: "Only entries from this index on.") var from: UInt64 = 0
        @Option(help: "At most so many entries.") var limit: Int?

        func validate() throws {
            if let limit, limit < 1 {
                throw ValidationError("--limit \(limit): allowed is 1 and up")
            }
        }

        func run() throws {
            var left = limit ?? Int.max
            do throws(WALError) {
                try log.inspector.dump(region: region.map { RegionID($0) }) { record in
                    switch record {
                    case .segment(let segment):
                        printLine(log.json ? object(of: segment).text : line(of: segment))
                    case .frame(let frame):
                        if log.json {
                            printLine(object(of: frame).text)
                        } else {
                            for line in lines(of: frame) { printLine(line) }
                        }
                    case .entry(let entry):
                        guard entry.index.rawValue >= from else { return true }
                        printLine(log.json ? object(of: entry).text : line(of: entry))
                        left -= 1
                    }
                    return left > 0
                }
            } catch { throw Failure(error) }
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check every byte; exit code 0 if a node would start from it, 20 if not.")

        @OptionGroup var log: LogOptions

        func run() throws {
            let report = log.inspector.verify()
            if log.json {
                printLine(
                    JSONValue.object([
                        ("sound", .bool(report.problem == nil)),
                        ("segments", .int(report.segments)), ("frames", .int(report.frames)),
                        ("batches", .int(report.batches)), ("entries", number(report.entries)),
                        ("frame_bytes", number(report.frameBytes)),
                        ("last_lsn", number(report.lastLSN)),
                        ("end", report.end.map(object(of:)) ?? .null),
                        ("discarded_frames", .int(report.discardedFrames)),
                        ("warnings", .array(report.warnings.map { .string($0) })),
                        ("problem", problem(report.problem)),
                    ]).text)
            } else {
                printLine(
                    "\(report.segments) segments, \(report.frames) frames, \(report.batches) "
                        + "batches, \(report.entries) entries, \(report.frameBytes) bytes")
                if let end = report.end { printLine("ends at \(end), LSN \(report.lastLSN)") }
                if report.discardedFrames > 0 {
                    printLine(
                        "\(report.discardedFrames) frames behind the end were in flight at a crash "
                            + "and never acknowledged")
                }
                for warning in report.warnings { printLine("warning: \(warning)") }
                if report.problem == nil { printLine("sound") }
            }
            try fail(report.problem, saidInJSON: log.json)
        }
    }

    struct Audit: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare what recovery would serve with a full scan.",
            discussion: "Exit code 0 if they agree, 20 if not.")

        @OptionGroup var log: LogOptions

        func run() throws {
            let report = log.inspector.audit()
            if log.json {
                printLine(
                    JSONValue.object([
                        ("sound", .bool(report.isSound)), ("entries", number(report.entries)),
                        ("regions", .array(report.regions.map(object(of:)))),
                        ("differences", .array(report.differences.map { .string($0) })),
                        ("problem", problem(report.problem)),
                    ]).text)
            } else {
                for line in table(of: report.regions) { printLine(line) }
                for difference in report.differences { printLine("difference: \(difference)") }
                if report.isSound {
                    printLine("\(report.entries) entries; index and scan agree")
                }
            }
            try fail(report.problem, saidInJSON: log.json)
            guard report.differences.isEmpty else {
                throw Failure(
                    status: ExitStatus.corruption,
                    message: log.json ? "" : "index and scan disagree")
            }
        }
    }
}

private func fail(_ problem: WALError?, saidInJSON: Bool) throws {
    guard let problem else { return }
    var failure = Failure(problem)
    if saidInJSON { failure.message = "" }
    throw failure
}
