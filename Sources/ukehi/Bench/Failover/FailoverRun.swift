// The whole of one run: processes, writers, kills, and reading everything back.
//
//   all is well ─→ kill the leader of the next region ─→ its first new write is acknowledged
//        ↑                                                      └→ ... every region's
//        └── every node has applied it ←─ start the node again ←──────┘

import Glibc
import Ukehi
import UkehiBase
import UkehiNode

/// Carries out one run and clears away behind it.
struct FailoverRun: Sendable {
    let settings: FailoverSettings
    /// Shows a line of progress.
    let say: @Sendable (String) -> Void

    /// How long anything may take before the run is given up.
    private static let patience: UInt64 = 60_000_000_000
    private static let pollMilliseconds = 2

    func run() async throws -> FailoverReport {
        let directory: String
        if let chosen = settings.directory {
            try DirectoryTree.create(chosen)
            directory = chosen
        } else {
            directory = try DirectoryTree.createFresh(in: "bench-data")
        }
        let isTemporary = settings.directory == nil
        let clear = { @Sendable in
            ServerChildren.killAll()
            guard isTemporary else { return }
            DirectoryTree.remove(directory)
            rmdir("bench-data")  // Stays when another run is in it.
        }
        let interruption = Interruption(clearing: clear)
        defer {
            clear()
            _ = interruption
        }
        let addresses = try LoopbackPorts.free(settings.nodes).map { "127.0.0.1:\($0)" }
        let children = addresses.indices.map {
            ServerChild(
                position: $0, addresses: addresses, directory: directory, state: settings.state)
        }
        say("  starting \(settings.nodes) nodes")
        for child in children { try child.start() }
        for child in children { try await child.ready() }
        return try await measure(children, addresses)
    }

    private func measure(
        _ children: [ServerChild], _ addresses: [String]
    ) async throws -> FailoverReport {
        let probes = addresses.map { NodeProbe(address: $0) }
        let regions = try await agreed(probes).regions
        let writers = try FailoverWriters(regions: regions)
        var report = FailoverReport(settings: settings)
        say(FailoverReport.heading)
        // Writes go on beside the rounds, whose child processes stay with this task.
        let writing = Task { try await writers.run(endpoints: addresses) }
        do {
            try await well(probes, writers, regions)
            for number in 0..<settings.kills {
                let round = try await kill(
                    in: regions[number % regions.count], children, probes, writers, regions)
                report.rounds.append(round)
                say(round.line(number + 1))
            }
        } catch {
            writers.stop()
            writing.cancel()
            throw error
        }
        writers.stop()
        try await writing.value
        report.counts = writers.counts
        say("  reading back \(BenchFormat.count(Double(report.counts.acknowledged))) writes")
        try await FailoverVerification(endpoints: addresses).run(writers, &report)
        for probe in probes { await probe.close() }
        return report
    }

    // MARK: One round

    private func kill(
        in region: RegionInfo, _ children: [ServerChild], _ probes: [NodeProbe],
        _ writers: FailoverWriters, _ regions: [RegionInfo]
    ) async throws -> FailoverRound {
        let topology = try await agreed(probes)
        let leader = topology.regions.first { $0.region == region.region }?.leader
        guard let leader, let address = topology.nodes.first(where: { $0.node == leader })?.address,
            let victim = children.first(where: { $0.address == address })
        else { throw BenchFailure("Region \(region.region) is led by no node of this run.") }
        let led = topology.regions.count { $0.leader == leader }
        let before = writers.counts

        let moment = victim.kill()
        writers.watch(since: moment.after)
        func recovered(_ region: RegionInfo) async throws -> UInt64 {
            try await untilGiven("a write to region \(region.region)") {
                writers.firstAcknowledged(in: region.region)
            } &- moment.before
        }
        let recovery = try await recovered(region)
        var slowest: UInt64 = 0
        for region in regions { slowest = max(slowest, try await recovered(region)) }

        let restart = BenchClock.now()
        try victim.start()
        try await victim.ready()
        let ready = BenchClock.now()
        try await well(probes, writers, regions)
        return FailoverRound(
            region: region.region, node: topology.nodes.first { $0.node == leader }?.name ?? "",
            regionsLed: led, recovery: recovery, everyRegion: slowest, restart: ready &- restart,
            caughtUp: BenchClock.now() &- restart, counts: writers.counts - before)
    }

    /// Returns when every region has a leader that all agree on, and every node has applied a write of
    /// each region that was acknowledged by now or later.
    private func well(
        _ probes: [NodeProbe], _ writers: FailoverWriters, _ regions: [RegionInfo]
    ) async throws {
        writers.watch(since: BenchClock.now())
        for region in regions {
            _ = try await untilGiven("a write to region \(region.region)") {
                writers.firstAcknowledged(in: region.region)
            }
            guard
                let writer = writers.writers.first(where: {
                    $0.region.region == region.region && $0.firstAcknowledged != nil
                })
            else { continue }
            let key = writer.key(writer.outcomes.lastIndex(of: .acknowledged) ?? 0)
            for probe in probes {
                _ = try await untilGiven("region \(region.region) caught up on each node") {
                    await probe.has(key) ? true : nil
                }
            }
        }
        _ = try await agreed(probes)
    }

    /// The cluster as every node sees it, once they agree on a leader for every region.
    private func agreed(_ probes: [NodeProbe]) async throws -> Topology {
        try await untilGiven("leaders that all nodes agree on") {
            var first: Topology?
            for probe in probes {
                guard let topology = await probe.topology(), !topology.regions.isEmpty,
                    topology.regions.allSatisfy({ $0.leader != nil })
                else { return nil }
                if let first, first.regions != topology.regions { return nil }
                first = first ?? topology
            }
            return first
        }
    }

    private func untilGiven<Value>(
        _ what: String, _ look: () async throws -> Value?
    ) async throws -> Value {
        let deadline = BenchClock.now() + Self.patience
        while true {
            if let value = try await look() { return value }
            guard BenchClock.now() < deadline else {
                throw BenchFailure(
                    "The cluster did not recover: waited \(Self.patience / 1_000_000_000) s for "
                        + "\(what). Run it again with --data-dir to keep the nodes' output.")
            }
            try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
        }
    }
}
