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

            With --recovery a log is filled, closed and opened again and again instead: seconds to \
            open it by the footers of its sealed segments, and by a full scan.

            With --space a log is filled with regions that rest and keep their entries, then watched \
            under a load of others: the space it takes beside what is needed of it, and what purging \
            costs.

            EXAMPLES
              ukehi bench wal
              ukehi bench wal --recovery --gigabytes 2
              ukehi bench wal --space --resting 100000 --duration 30
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
    @Option(help: "Size of a segment (default: 128, as a node's; with --space 32).")
    var segmentMb: Int?
    @Option(help: "Frames written at the same time (default: as a node does).")
    var inFlight: Int?
    @Option(help: "Entries that share a batch at most, as those of one pass of a lane do.")
    var batch = 256
    @Option(help: "Compress a region's batch from so many KiB on; 0: never (default: as a node).")
    var compressionThreshold: Int?
    @Option(help: "What entries hold: noise, or text that compresses about as records do.")
    var values = LogPayloads.Kind.noise
    @Flag(help: "Measure opening a filled log (with --entry-size, --regions and --segment-mb).")
    var recovery = false
    @Option(help: "With --recovery: of entries, in GiB.") var gigabytes = 2
    @Option(help: "With --recovery: how often each way of opening is measured.") var rounds = 5
    @Flag(help: "Measure the space of a log whose regions mostly rest.") var space = false
    @Option(help: "With --space: regions at rest.") var resting = 100_000
    @Flag(help: "With --space: one of the busy regions lets go of nothing.") var lagging = false
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
        var problems = settings.problems
        if recovery {
            let lists = [entrySize, regions].compactMap { $0?.values.count }
            if appenders != nil || lists.contains(where: { $0 > 1 }) {
                problems.append(
                    "--recovery takes no --appenders, and one --entry-size and --regions")
            }
            if !(1...64).contains(gigabytes) { problems.append("--gigabytes must be 1 to 64") }
            if !(1...100).contains(rounds) { problems.append("--rounds must be 1 to 100") }
        }
        if space {
            let lists = [appenders, entrySize, regions].compactMap { $0?.values.count }
            if recovery || lists.contains(where: { $0 > 1 }) {
                problems.append(
                    "--space takes no --recovery, and one --appenders, --entry-size and --regions")
            }
            if !(1...10_000_000).contains(resting) {
                problems.append("--resting must be 1 to 10000000")
            }
        }
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
        settings.segmentMegabytes = segmentMb ?? settings.segmentMegabytes
        settings.framesInFlight = inFlight
        settings.batchEntries = batch
        settings.compressionKilobytes = compressionThreshold
        settings.values = values
        settings.isJSON = json
        return settings
    }

    private var recoverySettings: RecoveryBenchSettings {
        var settings = RecoveryBenchSettings()
        settings.gigabytes = gigabytes
        settings.rounds = rounds
        settings.entryBytes = entrySize?.values.first ?? settings.entryBytes
        settings.regions = regions?.values.first ?? settings.regions
        settings.segmentMegabytes = segmentMb ?? settings.segmentMegabytes
        settings.directory = dir
        settings.keepsData = keep
        return settings
    }

    private var spaceSettings: SpaceBenchSettings {
        var settings = SpaceBenchSettings()
        settings.restingRegions = resting
        settings.row.appenders = appenders?.values.first ?? settings.row.appenders
        settings.row.entryBytes = entrySize?.values.first ?? settings.row.entryBytes
        settings.row.regions = regions?.values.first ?? settings.row.regions
        settings.hasLagging = lagging
        settings.seconds = duration
        settings.segmentMegabytes = segmentMb ?? settings.segmentMegabytes
        settings.directory = dir
        settings.keepsData = keep
        return settings
    }

    private func measureSpace(_ say: @escaping (String) -> Void) throws {
        let report = try SpaceBench(settings: spaceSettings, say: say).run()
        printLine(json ? report.json.text : "\n" + report.text)
        guard let difference = report.difference else { return }
        throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
    }

    private func measureRecovery(_ say: @escaping (String) -> Void) throws {
        let report = try RecoveryBench(settings: recoverySettings, say: say).run()
        printLine(json ? report.json.text : "\n" + report.table)
        guard let difference = report.difference else { return }
        throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
    }

    func run() throws {
        let isJSON = json
        let say = { (line: String) in
            if isJSON {
                printError(line)
            } else {
                printLine(line)
                flushOutput()
            }
        }
        do {
            if recovery { return try measureRecovery(say) }
            if space { return try measureSpace(say) }
            let report = try LogBenchRun(settings: settings, say: say).run()
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
