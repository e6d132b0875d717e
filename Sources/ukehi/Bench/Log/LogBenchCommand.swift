// `ukehi bench wal`: what the log costs beside the disk it writes to.

import ArgumentParser

extension LogPayloads.Kind: ExpressibleByArgument {}

/// Measures one log under closed-loop appenders, beside the bare disk, and reads back what it
/// acknowledged.
struct LogBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wal",
        abstract: "Measure one node's log here, beside the bare disk, and verify it.",
        discussion: """
            Each row is a fresh log with real syncs and closed-loop appenders: each wants its next \
            entry durable the moment the last one is, and is called back by the log; no thread waits \
            for it. Beside each row the bare disk is measured by the same calls on a file zeroed \
            ahead, so that every figure can be read as a ratio. At the end of a row the log is opened \
            again and compared with what was acknowledged; exit code 1 if anything is missing. While it \
            runs, all but each region's newest entries are compacted away and segments are freed, as \
            in a node.

            Lists give a row for each combination; without any, a table of rows that takes about a \
            minute.

            EXAMPLES
              ukehi bench wal
              ukehi bench wal --appenders 1,2 --entry-size 128
              ukehi bench wal --appenders 64 --entry-size 4096 --regions 10 --values text
              ukehi bench wal --appenders 1024 --regions 1,100,10000 --duration 10 --json
            """)

    @Option(help: "Closed-loop appenders; a list, as 1,64,1024.")
    var appenders: NumberList?
    @Option(help: "Bytes of an entry; a list.") var entrySize: NumberList?
    @Option(help: "Regions that the entries belong to; a list.") var regions: NumberList?
    @Option(help: "Measured seconds of each row.") var duration = 2.0
    @Option(help: "The logs go into a fresh directory in this one (default: ./bench-data).")
    var dir: String?
    @Flag(help: "Keep the fresh directory.") var keep = false
    @Option(help: "Size of a segment; small, so that a row reuses several.") var segmentMb = 32
    @Option(help: "Frames written at the same time (default: as a node does).")
    var inFlight: Int?
    @Option(help: "Entries that share a batch at most, as those of one pass of a lane do.")
    var batch = 256
    @Option(help: "Compress a region's batch from so many KiB on; 0: never (default: as a node).")
    var compressionThreshold: Int?
    @Option(help: "What entries hold: noise, or text that compresses about as records do.")
    var values = LogPayloads.Kind.noise
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    /// Comma-separated whole numbers.
    struct NumberList: ExpressibleByArgument {
        var values: [Int]
        init?(argument: String) {
            let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
            values = parts.compactMap { Int($0) }
            guard !values.isEmpty, values.count == parts.count else { return nil }
        }
    }

    func validate() throws {
        let problems = settings.problems
        if !problems.isEmpty {
            throw ValidationError("Nothing was started:\n  " + problems.joined(separator: "\n  "))
        }
    }

    private var settings: LogBenchSettings {
        var settings = LogBenchSettings()
        if appenders != nil || entrySize != nil || regions != nil {
            settings.rows = LogBenchSettings.rows(
                appenders: appenders?.values ?? [64], entryBytes: entrySize?.values ?? [128],
                regions: regions?.values ?? [1])
        }
        settings.seconds = duration
        settings.directory = dir
        settings.keepsData = keep
        settings.segmentMegabytes = segmentMb
        settings.framesInFlight = inFlight
        settings.batchEntries = batch
        settings.compressionKilobytes = compressionThreshold
        settings.values = values
        settings.isJSON = json
        return settings
    }

    func run() throws {
        let isJSON = json
        do {
            let report = try LogBenchRun(settings: settings) { line in
                if isJSON {
                    printError(line)
                } else {
                    printLine(line)
                    flushOutput()
                }
            }.run()
            printLine(isJSON ? report.json.text : "\n" + report.table)
            guard let difference = report.difference else { return }
            throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
        } catch let error as BenchFailure {
            throw Failure(status: ExitStatus.failure, message: error.description)
        } catch let error as BenchFileError {
            throw Failure(status: ExitStatus.ioFailed, message: error.description)
        }
    }
}
