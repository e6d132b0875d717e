// One run of the load: preload, warm up, measure, stop, wait until every client has its answer.
//
//   preload ──> warm-up ──> [peak] ──> measured part, a line of progress each second ──> stop ──> quiet
//
// The clients drive themselves; this only watches, wakes refused clients every 5 ms and fetches the
// topology when a reply showed that it is old. With a rate it wakes those that wait for an operation
// every millisecond; a rate that is a share of the peak has that measured before, as a closed loop.

import Synchronization
import UkehiNode

/// Counters of everything that is measured from outside the clients.
struct RunCounters: Sendable {
    var time = BenchClock.now()
    var usage = ProcessUsage.now()
    var logs: [LogCounters]
}

/// Drives the clients of all nodes through a run.
struct LoadRun: Sendable {
    let settings: BenchSettings
    let workload: Workload
    let clients: [any LoadClients]
    /// Reads the nodes' logs; gives nothing where the nodes are not ours.
    let logCounters: @Sendable () -> [LogCounters]
    /// How the cluster stands; nil if it cannot be asked.
    let glance: @Sendable () async -> ClusterGlance?
    /// Whether somebody watches: then there is a table of more than the load.
    let isWatched: Bool
    /// Told when the measured part begins.
    let began: @Sendable () -> Void
    /// Takes a line of progress.
    let progress: @Sendable (String) -> Void

    private let refreshes = Pace(everyNanoseconds: 100_000_000)

    /// How much longer than asked a load is watched that is not answered.
    private static let patienceSeconds = 60.0
    private var tickNanoseconds: UInt64 { settings.rate == nil ? 5_000_000 : 1_000_000 }

    init(
        settings: BenchSettings, workload: Workload, clients: [any LoadClients],
        logCounters: @escaping @Sendable () -> [LogCounters],
        glance: @escaping @Sendable () async -> ClusterGlance?, isWatched: Bool,
        began: @escaping @Sendable () -> Void = {},
        progress: @escaping @Sendable (String) -> Void
    ) {
        self.settings = settings
        self.workload = workload
        self.clients = clients
        self.logCounters = logCounters
        self.glance = glance
        self.isWatched = isWatched
        self.began = began
        self.progress = progress
    }

    /// Runs everything and gives the findings; the report's verification is still open.
    func run() async throws -> BenchReport {
        try await refreshViews()
        if settings.preloads {
            progress("  preloading \(BenchFormat.count(Double(workload.keyCount))) keys")
            for client in clients { client.start(preloading: true) }
            try await settle(seconds: 600, what: "The preload")
        }
        for client in clients { client.start(preloading: false) }
        _ = try await watch(
            seconds: settings.warmUpSeconds, from: BenchClock.now(), isMeasured: false)

        let (offered, peak) = try await pace()
        for client in clients { client.withTally { $0.beginMeasuring() } }
        let before = RunCounters(logs: logCounters())
        began()
        let samples = try await watch(
            seconds: settings.durationSeconds, from: before.time, isMeasured: true)
        let after = RunCounters(logs: logCounters())
        var report = BenchReport(
            settings: settings, seconds: Double(after.time - before.time) / 1e9)
        report.startedAt = before.time
        report.samples = samples
        report.regionsAtEnd = await glance()?.regions
        let totals = totals()
        report.writes = totals.writes.summary()
        report.reads = totals.reads.summary()
        report.offeredPerSecond = offered
        report.peakPerSecond = peak
        report.logs = zip(after.logs, before.logs).map { $0 - $1 }
        report.cpuSeconds = after.usage.cpuSeconds - before.usage.cpuSeconds
        report.residentMegabytes = ProcessUsage.residentMegabytes()

        for client in clients {
            let (count, longest) = client.starved
            report.starvedClients += count
            report.longestStarvedMicroseconds = max(
                report.longestStarvedMicroseconds, Double(longest) / 1000)
            client.stop()
        }
        try await settle(seconds: 60, what: "The load")
        for client in clients {
            client.closeLogs()
            client.withTally { tally in
                report.failedConditions += tally.failedConditions
                report.retries += tally.retries
                report.unknownOutcomes += tally.unknownOutcomes
            }
        }
        return report
    }

    /// Goes over to an open loop, if that is asked for; what it offers, and the peak if it was measured.
    private func pace() async throws -> (offered: Double?, peak: Double?) {
        let offered: Double
        var peak: Double?
        switch settings.rate {
        case nil: return (nil, nil)
        case .operations(let rate): offered = rate
        case .share(let share):
            progress("  measuring the peak")
            for client in clients { client.withTally { $0.beginMeasuring() } }
            let start = BenchClock.now()
            _ = try await watch(seconds: settings.durationSeconds, from: start, isMeasured: true)
            let totals = totals()
            let seconds = Double(BenchClock.now() - start) / 1e9
            let reached = Double(totals.writes.total + totals.reads.total) / seconds
            guard reached > 0 else { throw BenchFailure("Nothing was answered: there is no peak.") }
            peak = reached
            offered = reached * share
        }
        progress("  \(BenchFormat.count(offered)) operations/s from now on")
        for client in clients { client.pace(offered / Double(clients.count)) }
        // What was wanted before is answered, and the queues it left are empty.
        _ = try await watch(
            seconds: max(settings.warmUpSeconds, 0.5), from: BenchClock.now(),
            isMeasured: false)
        return (offered, peak)
    }

    /// Waits until every client has its answer.
    private func settle(seconds: Double, what: String) async throws {
        let start = BenchClock.now()
        while clients.contains(where: { $0.waiting > 0 }) {
            if Double(BenchClock.now() - start) > seconds * 1e9 {
                let waiting = clients.reduce(0) { $0 + $1.waiting }
                throw BenchFailure(
                    "\(what) did not end: \(waiting) operations were not answered within "
                        + "\(Int(seconds)) s.")
            }
            try await pulse()
        }
    }

    private func pulse() async throws {
        try await Task.sleep(for: .nanoseconds(tickNanoseconds))
        // A region that one node lost is led by another now: all views are renewed together.
        if clients.contains(where: { $0.needsTopology }), refreshes.isDue() {
            for client in clients { await refresh(client) }
        }
        for client in clients { client.tick() }
    }

    /// What is measured goes on until there is something to report, however short it was to be; no longer than
    /// there are keys.
    private func watch(
        seconds: Double, from start: UInt64, isMeasured: Bool
    ) async throws -> [TimelineSample] {
        var lines = 0
        var samples: [TimelineSample] = []
        var second = Difference(since: start)
        var sample = Difference(since: start)
        while true {
            let elapsed = Double(BenchClock.now() - start) / 1e9
            let isOver = elapsed >= seconds && (!isMeasured || hasAnswers)
            if isOver || workload.distribution?.isExhausted == true {
                if isMeasured, samples.isEmpty || sample.seconds > LoadRun.sampleSeconds / 2 {
                    samples.append(sample.next(totals()).sample(since: start))
                }
                return samples
            }
            guard elapsed < seconds + LoadRun.patienceSeconds else {
                throw BenchFailure(
                    "Nothing was measured: after \(Int(elapsed)) s fewer than "
                        + "\(settings.leastAnswers) operations were answered.")
            }
            try await pulse()
            guard isMeasured else { continue }
            if sample.seconds >= LoadRun.sampleSeconds {
                samples.append(sample.next(totals()).sample(since: start))
            }
            let now = BenchClock.now()
            guard Double(now - start) / 1e9 >= Double(lines + 1) else { continue }
            lines += 1
            let stretch = second.next(totals())
            if isWatched {
                if (lines - 1) % LiveTable.rowsPerHeader == 0 { progress(LiveTable.header) }
                progress(LiveTable.row(second: lines, stretch, await glance()))
            } else {
                progress(line(second: lines, stretch.seconds, stretch.writes, stretch.reads))
            }
        }
    }

    /// Fine enough to see what a split does, coarse enough that looking costs nothing.
    private static let sampleSeconds = 0.5

    /// Whether enough was answered to report.
    private var hasAnswers: Bool {
        let totals = totals()
        return totals.writes.total + totals.reads.total >= settings.leastAnswers
    }

    private func line(
        second: Int, _ seconds: Double, _ writes: LatencyRecorder, _ reads: LatencyRecorder
    ) -> String {
        var parts = [BenchFormat.padded("\(second) s", 6)]
        for (name, recorder) in [("writes", writes), ("reads", reads)] where recorder.total > 0 {
            let summary = recorder.summary()
            parts.append(
                BenchFormat.padded(BenchFormat.count(Double(recorder.total) / seconds), 10)
                    + " \(name)/s  p50 " + BenchFormat.padded(BenchFormat.time(summary.p50), 8)
                    + "  p99 " + BenchFormat.padded(BenchFormat.time(summary.p99), 8))
        }
        if parts.count == 1 { parts.append("nothing was answered") }
        return parts.joined(separator: "  ")
    }

    private func totals() -> (writes: LatencyRecorder, reads: LatencyRecorder) {
        let writes = LatencyRecorder()
        let reads = LatencyRecorder()
        for client in clients {
            client.withTally { tally in
                writes.add(tally.writes)
                reads.add(tally.reads)
            }
        }
        return (writes, reads)
    }

    // MARK: Topology

    /// Waits until every region has a leader, then gives each group of clients its keys.
    private func refreshViews() async throws {
        let deadline = BenchClock.now() + 60_000_000_000
        for client in clients {
            while true {
                if let topology = await client.target.topology(),
                    !topology.regions.isEmpty,
                    topology.regions.allSatisfy({ $0.leader != nil })
                {
                    client.use(
                        OwnedKeys(node: topology.node, topology: topology, workload: workload))
                    break
                }
                guard BenchClock.now() < deadline else {
                    throw BenchFailure("No load was started: a region had no leader for 60 s.")
                }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    private func refresh(_ client: any LoadClients) async {
        guard let topology = await client.target.topology() else { return }
        client.use(OwnedKeys(node: topology.node, topology: topology, workload: workload))
    }
}

/// At most one thing per interval.
final class Pace: Sendable {
    private let interval: UInt64
    private let last = Mutex<UInt64>(0)

    init(everyNanoseconds interval: UInt64) { self.interval = interval }

    /// Whether the interval has passed since this last said so.
    func isDue() -> Bool {
        last.withLock { last in
            let now = BenchClock.now()
            guard now &- last >= interval else { return false }
            last = now
            return true
        }
    }
}

/// Why a run could not be finished.
struct BenchFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
