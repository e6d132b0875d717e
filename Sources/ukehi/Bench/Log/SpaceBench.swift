// `ukehi bench wal --space`: what a log takes beside what is needed of it, while most regions rest.
//
//   resting regions, filled once -> busy regions under closed-loop appenders, which let go of all but their
//        newest entries once a second, as nodes do -> purging, once a second -> a sample
//
// The resting regions let go of nothing, and so does the first of the busy ones, if asked for.

import Glibc
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiWAL

/// What the space of a log is measured with.
struct SpaceBenchSettings: Sendable {
    var restingRegions = 100_000
    /// Entries that each of them has, of 100 bytes.
    var restingEntries = 3
    var row = LogBenchRow(appenders: 256, entryBytes: 1024, regions: 1000)
    /// Whether a busy region lets go of nothing.
    var hasLagging = false
    var seconds = 20.0
    var segmentMegabytes = 32
    var directory: String?
    var keepsData = false
}

/// What was found at one moment.
struct SpaceSample: Sendable {
    var seconds = 0.0
    var space = LogSpace()
    /// Of frames, since the load began: all, and those of rewrites and carries.
    var writtenBytes: UInt64 = 0
    var rewrittenBytes: UInt64 = 0
    /// Of the purging thread, and the longest of its steps.
    var purgeCPUSeconds = 0.0
    var longestStepSeconds = 0.0
    var steps = 0

    /// Bytes of files in use for each that is needed, the active segment aside.
    func amplification(_ segmentBytes: Int) -> Double {
        Double(space.segmentBytes - segmentBytes) / Double(max(space.neededBytes, 1))
    }
}

/// Fills a log with resting regions and watches it under a load of others.
struct SpaceBench {
    let settings: SpaceBenchSettings
    let say: (String) -> Void

    func run() throws -> SpaceBenchReport {
        let parent = settings.directory ?? "bench-data"
        let directory = try DirectoryTree.createFresh(in: parent)
        defer {
            if !settings.keepsData { DirectoryTree.remove(directory) }
        }
        do throws(WALError) {
            return try measure(directory + "/wal")
        } catch {
            throw BenchFailure("Space was not measured: \(error)")
        }
    }

    private var options: WALOptions {
        var options = WALOptions()
        options.segmentBytes = settings.segmentMegabytes << 20
        return options
    }

    private func open(
        _ directory: String
    ) throws(WALError) -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        try WriteAheadLog.open(
            fileSystem: POSIXFileSystem(), directory: directory, options: options,
            random: SystemRandomSource(), clock: SystemClock())
    }

    private func measure(_ directory: String) throws(WALError) -> SpaceBenchReport {
        let log = try open(directory).log
        let appenders = LogAppenders(
            row: settings.row, payloads: LogPayloads(entryBytes: settings.row.entryBytes),
            batchEntries: 256)
        log.start(
            durable: { lane, ticket in
                if lane == 0 { appenders.durable(upTo: ticket) }
            },
            failed: { appenders.failed($0.description) })
        var report = SpaceBenchReport(settings: settings)
        say("  filling \(settings.restingRegions) regions")
        try fill(log)
        report.indexBytesWithEntries = log.indexBytes()
        report.atRest = log.space
        let before = log.statistics
        let used = ProcessUsage.now()
        appenders.start(on: log)
        try watch(log, appenders, before, &report)
        while !appenders.drain(), appenders.failure == nil {
            BenchClock.pause(nanoseconds: 1_000_000)
        }
        report.cpuSeconds = ProcessUsage.now().cpuSeconds - used.cpuSeconds
        report.entries = appenders.acknowledged
        report.latencies = appenders.latencies()
        let last = appenders.lastIndexes
        appenders.end()
        // What the busy regions take meanwhile is none of theirs.
        let all = log.indexBytes()
        try letGo(log)
        report.indexBytesAtRest = report.indexBytesWithEntries - (all - log.indexBytes())
        log.stop()
        let again = try open(directory)
        again.log.stop()
        report.difference =
            appenders.failure ?? difference(again.regions, last, appenders.firstIndexes)
        return report
    }

    private func watch(
        _ log: WriteAheadLog, _ appenders: LogAppenders, _ before: WALStatistics,
        _ report: inout SpaceBenchReport
    ) throws(WALError) {
        let busy = (settings.hasLagging ? 1 : 0)..<settings.row.regions
        let start = BenchClock.now()
        var sample = SpaceSample()
        while sample.seconds < settings.seconds, appenders.failure == nil {
            BenchClock.pause(nanoseconds: 1_000_000_000)
            appenders.compact(busy.map(LogPayloads.id(of:)))
            try purge(log, &sample)
            let now = log.statistics
            sample.seconds = Double(BenchClock.now() - start) / 1e9
            sample.space = log.space
            sample.writtenBytes = now.bytesWritten - before.bytesWritten
            sample.rewrittenBytes =
                now.rewrittenBytes + now.carriedBytes - before.rewrittenBytes
                - before.carriedBytes
            report.samples.append(sample)
            say("  " + report.line(sample))
        }
    }

    /// Frees what can be freed, as a node's lane does.
    private func purge(_ log: WriteAheadLog, _ sample: inout SpaceSample) throws(WALError) {
        while true {
            let (start, used) = (BenchClock.now(), SpaceBench.threadSeconds())
            let step = try log.purgeStep()
            let seconds = Double(BenchClock.now() - start) / 1e9
            sample.purgeCPUSeconds += SpaceBench.threadSeconds() - used
            sample.longestStepSeconds = max(sample.longestStepSeconds, seconds)
            sample.steps += 1
            switch step {
            case .removed: continue
            case .carried(_, let ticket):
                guard log.waitUntilDurable(ticket) else { return }
            case .pinned, .done: return
            }
        }
    }

    private static func threadSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    // MARK: Resting regions

    private static let restingLane = 2

    private func id(_ position: Int) -> RegionID {
        RegionID(UInt64(settings.row.regions + position) + 1_000_000)
    }

    private func forEachResting(
        _ log: WriteAheadLog, _ change: (inout LogBatch, RegionID) -> Void
    ) throws(WALError) {
        var batch = LogBatch()
        for position in 0..<settings.restingRegions {
            change(&batch, id(position))
            guard position % 128 == 127 || position + 1 == settings.restingRegions else { continue }
            let ticket = try log.submit(&batch, lane: SpaceBench.restingLane)
            guard log.waitUntilDurable(ticket) else {
                throw WALError(.ioFailed, "the log stopped while it was filled")
            }
        }
    }

    private func fill(_ log: WriteAheadLog) throws(WALError) {
        let data = Bytes([UInt8](repeating: 7, count: 100))
        let description = Bytes([UInt8](repeating: 1, count: 60))
        let entries = (0..<settings.restingEntries).map {
            Entry(term: Term(1), index: LogIndex(UInt64($0) + 1), data: data)
        }
        let state = HardState(term: Term(1), vote: PeerID(1), commit: .zero)
        try forEachResting(log) { batch, region in
            batch.birth(region: region, payload: description, hardState: state)
            batch.append(region: region, hardState: state, entries: entries)
        }
    }

    private func letGo(_ log: WriteAheadLog) throws(WALError) {
        let next = LogIndex(UInt64(settings.restingEntries) + 1)
        try forEachResting(log) { batch, region in
            batch.compact(region: region, firstIndex: next, term: Term(1))
        }
    }

    private func difference(
        _ found: [RecoveredRegion], _ last: [UInt64], _ first: [UInt64]
    ) -> String? {
        let busy = last.filter { $0 > 0 }.count
        guard found.count == busy + settings.restingRegions else {
            return "\(found.count) regions of \(busy + settings.restingRegions) were there"
        }
        for region in found {
            let position = LogPayloads.position(of: region.region)
            let isBusy = position < last.count
            let due = isBusy ? last[position] : UInt64(settings.restingEntries)
            let begin = isBusy ? first[position] : due + 1
            guard region.lastIndex.rawValue == due, region.firstIndex.rawValue == begin else {
                return "\(region.region) has \(region.firstIndex) to \(region.lastIndex), "
                    + "\(begin) to \(due) were due"
            }
            if !isBusy, region.birth == nil { return "\(region.region) has lost its birth" }
        }
        return nil
    }
}
