// The whole of `ukehi bench wal`: for each row a fresh log, the bare disk before and after it, the
// load, and what a reopened log says of it.

import Glibc
import UkehiEnvironment
import UkehiPOSIX
import UkehiWAL

/// Carries out the rows and cleans up behind them.
struct LogBenchRun {
    let settings: LogBenchSettings
    /// Told about the progress, line by line.
    let say: (String) -> Void

    func run() throws -> LogBenchReport {
        let parent = settings.directory ?? "bench-data"
        let directory = try DirectoryTree.createFresh(in: parent)
        defer {
            if !settings.keepsData {
                DirectoryTree.remove(directory)
                // Stays when another run is in it.
                if settings.directory == nil { rmdir(parent) }
            }
        }
        do throws(FileError) {
            return try measure(in: directory)
        } catch {
            throw BenchFailure("The log was not measured: \(error)")
        }
    }

    private func measure(in directory: String) throws(FileError) -> LogBenchReport {
        say("  measuring the disk in \(directory)")
        let ceiling = try LogCeiling(directory: directory)
        var report = LogBenchReport(settings: settings)
        report.cached = try ceiling.writeAndSync(bytes: 4096, seconds: 0.5)
        for (position, row) in settings.rows.enumerated() {
            say("  \(position + 1) of \(settings.rows.count): \(row.text)")
            let place = "\(directory)/row-\(position + 1)"
            do throws(WALError) {
                report.rows.append(try measure(row, in: place, ceiling))
            } catch {
                report.rows.append(
                    LogBenchResult(row: row, difference: "the log failed: \(error)"))
            }
            if !settings.keepsData { DirectoryTree.remove(place) }
        }
        return report
    }

    // MARK: A row

    private var options: WALOptions {
        var options = WALOptions()
        options.segmentBytes = settings.segmentMegabytes << 20
        if let frames = settings.framesInFlight { options.maxGroupsInFlight = frames }
        if let threshold = settings.compressionKilobytes {
            options.compressionThresholdBytes = threshold > 0 ? threshold << 10 : nil
        }
        return options
    }

    private func measure(
        _ row: LogBenchRow, in directory: String, _ ceiling: LogCeiling
    ) throws(WALError) -> LogBenchResult {
        let payloads = LogPayloads(entryBytes: row.entryBytes, kind: settings.values)
        let appenders = LogAppenders(
            row: row, payloads: payloads, batchEntries: settings.batchEntries)
        var options = options
        // The load is bounded by itself: no entry is refused.
        let underWay = row.appenders * (row.entryBytes + 128)
        options.maxQueueBytes = max(options.maxQueueBytes, 2 * underWay)
        let log = try open(directory, options)
        // A node that has run for a while has its room prepared; so has this one, to begin with.
        while log.prepareStep() {}

        log.start(
            durable: { lane, ticket in
                if lane != LogAppenders.compactionLane { appenders.durable(upTo: ticket) }
            },
            failed: { appenders.failed($0.description) })
        appenders.start(on: log)
        try warmUp(appenders, log)
        drain(appenders)
        var result = LogBenchResult(row: row, framesInFlight: log.mostFramesInFlight)
        appenders.forgetLatencies()
        let turns = max(Int((settings.seconds / LogBenchRun.turnSeconds).rounded()), 1)
        for _ in 0..<turns {
            let before = Snapshot(appenders, log)
            appenders.resume()
            try keepCompact(appenders, log, seconds: settings.seconds / Double(turns))
            drain(appenders)
            let after = Snapshot(appenders, log)
            result.add(from: before, to: after)
            try measureRaw(ceiling, &result)
        }
        result.latencies = appenders.latencies()
        appenders.end()
        log.stop()
        // Every byte is checked again, not the footers alone.
        options.readsFooters = false
        result.difference =
            appenders.failure
            ?? LogBenchVerification(appenders: appenders, payloads: payloads).difference {
                () throws(WALError) in try open(directory, options)
            }
        return result
    }

    private static let warmUpSeconds = 0.7
    private static let mostWarmUpSeconds = 3.5
    /// The log's turn, and each of the bare disk's.
    private static let turnSeconds = 0.25
    private static let rawSeconds = 0.08

    /// Goes on until dead segments live again, as they do in a node that has run for a while. A log that
    /// has not filled a single one by then will not while it is measured.
    private func warmUp(_ appenders: LogAppenders, _ log: WriteAheadLog) throws(WALError) {
        var seconds = 0.0
        while seconds < LogBenchRun.mostWarmUpSeconds {
            try keepCompact(appenders, log, seconds: LogBenchRun.warmUpSeconds)
            seconds += LogBenchRun.warmUpSeconds
            let counters = log.statistics
            if counters.segments < 2 || counters.segmentsReused > 2 { return }
        }
    }

    /// Waits until all that was appended is durable.
    private func drain(_ appenders: LogAppenders) {
        let deadline = BenchClock.now() + 30_000_000_000
        while !appenders.drain(), appenders.failure == nil, BenchClock.now() < deadline {
            BenchClock.pause(nanoseconds: 50_000)
        }
    }

    /// The bare disk's turn: blocks, and frames as large as the log's last ones.
    private func measureRaw(
        _ ceiling: LogCeiling, _ result: inout LogBenchResult
    ) throws(WALError) {
        let size = LogCeiling.frameBytes(Int(result.bytesPerSync))
        do throws(FileError) {
            try ceiling.write(bytes: 4096, seconds: LogBenchRun.rawSeconds, into: &result.raw)
            try ceiling.write(
                bytes: size, seconds: LogBenchRun.rawSeconds, into: &result.rawFrames)
            try ceiling.write(
                bytes: size, seconds: LogBenchRun.rawSeconds, into: &result.rawDeep)
        } catch {
            throw WALError(.ioFailed, "the bare disk was not measured: \(error)")
        }
    }

    /// Waits, and meanwhile frees the log's old end as a node does.
    private func keepCompact(
        _ appenders: LogAppenders, _ log: WriteAheadLog, seconds: Double
    ) throws(WALError) {
        let end = BenchClock.now() + UInt64(seconds * 1e9)
        while true {
            let now = BenchClock.now()
            guard now < end else { return }
            BenchClock.pause(nanoseconds: min(end - now, 50_000_000))
            guard log.statistics.segments > 1, appenders.failure == nil else { continue }
            appenders.compact(try log.purge())
        }
    }

    private func open(_ directory: String, _ options: WALOptions) throws(WALError) -> WriteAheadLog
    {
        try WriteAheadLog.open(
            fileSystem: POSIXFileSystem(), directory: directory, options: options,
            random: SystemRandomSource(), clock: SystemClock()
        ).log
    }
}

/// What is counted at one moment.
struct Snapshot {
    var time = BenchClock.now()
    var entries: UInt64
    var log: WALStatistics
    var usage = ProcessUsage.now()
    /// By this process, to the device: zeros ahead of the log included.
    var deviceBytes = ProcessUsage.writtenBytes()

    init(_ appenders: LogAppenders, _ log: WriteAheadLog) {
        entries = appenders.acknowledged
        self.log = log.statistics
    }
}

extension LogBenchRow {
    /// `64 appenders, 128 B, 100 regions`.
    var text: String {
        "\(BenchFormat.count(Double(appenders))) appender\(appenders == 1 ? "" : "s"), "
            + "\(BenchFormat.count(Double(entryBytes))) B, "
            + "\(BenchFormat.count(Double(regions))) region\(regions == 1 ? "" : "s")"
    }
}
