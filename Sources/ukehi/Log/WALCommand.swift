// `ukehi wal`: what a node has on disk. All but `cut` only read, take no lock and need no key.

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
              ukehi wal stat ./data
              ukehi wal verify ./data
              ukehi wal audit ./data --json
              ukehi wal diff ./node-1 ./node-2
              ukehi wal cut ./data

            DIR is a node's data directory or the wal directory in it. Keys and values are shown as
            lengths and checksums, never as such. The bytes are described in docs/FORMATS.md.
            """,
        subcommands: [Dump.self, Stat.self, Verify.self, Audit.self, Diff.self, Cut.self])
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

    /// Reads the directory; `progress` watches how far that has come.
    func inspector(_ progress: ProgressLine? = nil) -> WALInspector {
        WALInspector(fileSystem: POSIXFileSystem(), directory: directory, progress)
    }
}

extension WALInspector {
    init(fileSystem: POSIXFileSystem, directory: String, _ progress: ProgressLine?) {
        self.init(fileSystem: fileSystem, directory: directory)
        if let progress { onProgress = { progress.show($0, of: $1) } }
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
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check every byte; exit code 0 if a node would start from it, 20 if not.",
            discussion: """
                On damage it names the segment, the offset, and what would be lost if the log were \
                cut there: by region and index, those that fail their checksum first. Nothing is \
                ever changed.

                EXAMPLES
                  ukehi wal verify ./data
                  ukehi wal verify ./data --json | jq .lost
                """)

        @OptionGroup var log: LogOptions

        func run() throws {
            let progress = ProgressLine("verifying")
            let report = log.inspector(progress).verify()
            progress.end()
            if log.json {
                printLine(
                    JSONValue.object([
                        ("sound", .bool(report.problem == nil)),
                        ("segments", .int(report.segments)), ("indexes", .int(report.footers)),
                        ("frames", .int(report.frames)),
                        ("batches", .int(report.batches)), ("entries", number(report.entries)),
                        ("frame_bytes", number(report.frameBytes)),
                        ("compressed_batches", .int(report.compressedBatches)),
                        ("body_bytes", number(report.bodyBytes)),
                        ("raw_bytes", number(report.rawBytes)),
                        ("last_lsn", number(report.lastLSN)),
                        ("end", report.end.map(object(of:)) ?? .null),
                        ("discarded_frames", .int(report.discardedFrames)),
                        ("warnings", .array(report.warnings.map { .string($0) })),
                        ("problem", problem(report.problem)),
                        ("lost", report.problem == nil ? .null : object(of: report.loss)),
                    ]).text)
            } else {
                printLine(
                    "\(report.segments) segments, \(report.footers) with an index, "
                        + "\(report.frames) frames, \(report.batches) "
                        + "batches, \(report.entries) entries, \(report.frameBytes) bytes")
                if report.compressedBatches > 0 {
                    let share = Double(report.bodyBytes) / Double(max(report.rawBytes, 1))
                    printLine(
                        "\(report.compressedBatches) batches compressed: \(report.rawBytes) bytes "
                            + "of bodies in \(report.bodyBytes), \(BenchFormat.ratio(share))")
                }
                if let end = report.end { printLine("ends at \(end), LSN \(report.lastLSN)") }
                if report.discardedFrames > 0 {
                    printLine(
                        "\(report.discardedFrames) frames behind the end were in flight at a crash "
                            + "and never acknowledged")
                }
                for warning in report.warnings { printLine("warning: \(warning)") }
                if report.problem == nil {
                    printLine(ink("sound", .green))
                } else {
                    for line in lines(of: report.loss) { printLine(line) }
                }
            }
            try fail(report.problem, saidInJSON: log.json)
        }
    }

    struct Audit: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare what recovery would serve with a full scan.",
            discussion: """
                Exit code 0 if they agree, 20 if not. Logs that hold the same entries have the same \
                checksums, whatever their segments.

                EXAMPLES
                  ukehi wal audit ./data
                  ukehi wal audit ./data --json | jq .regions
                """)

        @OptionGroup var log: LogOptions

        func run() throws {
            let progress = ProgressLine("auditing")
            let report = log.inspector(progress).audit()
            progress.end()
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

/// Ends the command if there is a problem; in JSON it was told already.
func fail(_ problem: WALError?, saidInJSON: Bool) throws {
    guard let problem else { return }
    var failure = Failure(problem)
    if saidInJSON { failure.message = "" }
    throw failure
}
