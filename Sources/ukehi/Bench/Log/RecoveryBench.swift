// `ukehi bench wal --recovery`: how long a log takes to open, by its footers and by a full scan.
//
//   fill -> close -> read once (warm) -> for each round and way: open, close, put back as it was
//
// The fill ends with half a segment, which stands for what a stopped node leaves: its newest segment
// has no footer and is always scanned. Each opening finds the same bytes.

import UkehiEnvironment
import UkehiPOSIX
import UkehiWAL

/// What a recovery is measured on.
struct RecoveryBenchSettings: Sendable {
    /// Of entry data, in all.
    var gigabytes = 2
    var entryBytes = 4096
    var regions = 10_000
    var segmentMegabytes = 128
    /// How often each way is measured.
    var rounds = 5
    var directory: String?
    var keepsData = false
}

/// How a log is opened.
struct RecoveryWay: Sendable {
    var name: String
    var readsFooters: Bool
    var isParallel: Bool

    static let all = [
        RecoveryWay(name: "footers", readsFooters: true, isParallel: true),
        RecoveryWay(name: "footers, one thread", readsFooters: true, isParallel: false),
        RecoveryWay(name: "full scan", readsFooters: false, isParallel: true),
        RecoveryWay(name: "full scan, one thread", readsFooters: false, isParallel: false),
    ]
}

/// One way's openings.
struct RecoveryTiming: Sendable {
    var way: RecoveryWay
    /// Of each round.
    var seconds: [Double] = []
    /// Of all threads, while it was opened: what a machine that does other things at the same time
    /// does not blur.
    var cpuSeconds: [Double] = []

    var median: Double { seconds.sorted()[seconds.count / 2] }
    var medianCPU: Double { cpuSeconds.sorted()[cpuSeconds.count / 2] }
    var best: Double { seconds.min() ?? 0 }
    var worst: Double { seconds.max() ?? 0 }
}

/// Fills a log and opens it again and again.
struct RecoveryBench {
    let settings: RecoveryBenchSettings
    let say: (String) -> Void

    func run() throws -> RecoveryBenchReport {
        let parent = settings.directory ?? "bench-data"
        let directory = try DirectoryTree.createFresh(in: parent)
        defer {
            if !settings.keepsData { DirectoryTree.remove(directory) }
        }
        do throws(WALError) {
            return try measure(directory + "/wal")
        } catch {
            throw BenchFailure("Recovery was not measured: \(error)")
        }
    }

    private func measure(_ directory: String) throws(WALError) -> RecoveryBenchReport {
        let load = RecoveryLoad(settings)
        say("  filling \(settings.gigabytes) GiB")
        let tail = settings.segmentMegabytes << 19
        let first = try open(directory, RecoveryWay.all[0]).log
        try load.append(settings.gigabytes << 30 - tail, to: first)
        // Recovery seals what was the newest segment; its footer follows.
        try load.append(tail, to: try open(directory, RecoveryWay.all[0]).log)
        var report = RecoveryBenchReport(settings: settings)
        say("  reading it")
        // What was written past the page cache is read into it; then it is measured.
        _ = try BareReading.measure(directory)
        report.bare = try BareReading.measure(directory)
        report.timings = RecoveryWay.all.map { RecoveryTiming(way: $0) }
        let before = try LogEnding(directory)
        for round in 0..<settings.rounds {
            for position in RecoveryWay.all.indices {
                let (start, used) = (BenchClock.now(), ProcessUsage.now())
                let measured = try open(directory, RecoveryWay.all[position])
                let seconds = Double(BenchClock.now() - start) / 1e9
                report.timings[position].seconds.append(seconds)
                report.timings[position].cpuSeconds.append(
                    ProcessUsage.now().cpuSeconds - used.cpuSeconds)
                report.difference = report.difference ?? load.difference(measured.regions)
                measured.log.stop()
                try before.putBack()
                say(
                    "  round \(round + 1), \(RecoveryWay.all[position].name): "
                        + BenchFormat.time(seconds * 1e6))
            }
        }
        report.entries = load.entries
        return report
    }

    private func open(
        _ directory: String, _ way: RecoveryWay
    ) throws(WALError) -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        var options = WALOptions()
        options.segmentBytes = settings.segmentMegabytes << 20
        options.readsFooters = way.readsFooters
        return try WriteAheadLog.open(
            fileSystem: POSIXFileSystem(), directory: directory, options: options,
            random: SystemRandomSource(), clock: SystemClock(),
            parallel: way.isParallel ? ThreadRunner() : SerialRunner())
    }
}
