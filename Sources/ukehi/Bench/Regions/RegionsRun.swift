// One run of `ukehi bench regions`.
//
//   a cluster of one region ──> a key for each region that is to be ──> divided ──> idle
//     ──> the key space is covered once, each region takes a write and gives it back
//
// The first command's regions are led by whoever led the only one; their leaders are spread over the nodes before
// they are divided further, so that every node leads its share at the end.

import Glibc
import Ukehi
import UkehiBase
import UkehiNode

/// Carries out one run and clears away behind it.
struct RegionsRun: Sendable {
    let settings: RegionsSettings
    /// Shows a line of progress.
    let say: @Sendable (String) -> Void

    private static let patience = 600.0
    private static let timeout = Duration.seconds(120)
    /// Parts that are divided at once, over all nodes.
    private static let atOnce = 12

    func run() async throws -> RegionsReport {
        guard let mix = OperationMix(readRatio: 0) else { throw BenchFailure("No mix.") }
        let parent = settings.directory ?? "bench-data"
        let directory = try DirectoryTree.createFresh(in: parent)
        let clear = { @Sendable in
            DirectoryTree.remove(directory)
            rmdir(parent)  // Stays when another run is in it.
        }
        let interruption = Interruption(clearing: clear)
        defer {
            clear()
            _ = interruption
        }
        let bench = settings.bench(mix)
        say("  starting \(settings.nodes) nodes")
        let cluster = try await BenchCluster.start(bench, directory: directory)
        do {
            let report = try await run(cluster, bench)
            await cluster.stop()
            return report
        } catch {
            await cluster.stop()
            throw error
        }
    }

    private func run(_ cluster: BenchCluster, _ bench: BenchSettings) async throws -> RegionsReport
    {
        var report = RegionsReport(settings: settings)
        let workload = Workload(settings: bench, input: nil)
        let targets = cluster.nodes.map { NodeTarget($0.core) }
        let clients = ClientLane(
            target: RoutedTarget(targets), workload: workload, clients: 0..<bench.clients,
            totalClients: bench.clients, seed: bench.seed, logs: ClientLane.Logs())
        say("  a key for each region")
        try await write(clients, workload)
        report.residentBefore = ProcessUsage.residentMegabytes()

        say("  dividing")
        let plan = DivisionPlan(count: settings.regions)
        report.commands = plan.commandCount
        let usage = ProcessUsage.now()
        let start = BenchClock.now()
        try await divide(cluster, plan, workload.allKeys())
        try await settle(cluster)
        let settled = BenchClock.now()
        let isServed = try await awaitService(cluster)
        report.seconds = Double((isServed ? BenchClock.now() : settled) - start) / 1e9
        report.cpuSeconds = ProcessUsage.now().cpuSeconds - usage.cpuSeconds
        report.residentAfter = ProcessUsage.residentMegabytes()
        let events = SplitEvent.events(
            cluster.nodes.flatMap { $0.core.splitRecords() }, since: start)
        report.serve = events.serveTimes

        say("  made in \(BenchFormat.fixed(report.seconds, 1)) s; idle")
        // What the splits have left to do is not idleness.
        try await Task.sleep(for: .seconds(min(3, settings.idleSeconds)))
        let before = (ProcessUsage.now().cpuSeconds, BenchClock.now())
        try await Task.sleep(for: .seconds(settings.idleSeconds))
        report.idleCPU =
            (ProcessUsage.now().cpuSeconds - before.0)
            / (Double(BenchClock.now() - before.1) / 1e9)

        say("  verifying")
        if let difference = coverage(cluster) {
            report.verification = VerificationResult(summary: "regions", difference: difference)
            return report
        }
        report.led = cluster.nodes.map { node in
            node.regions.count { $0.leader == node.core.nodeID }
        }
        try await write(clients, workload)
        report.verification = try await Verification(
            settings: bench, workload: workload, clients: [clients], targets: targets
        ).run()
        report.verification.summary =
            "the key space is covered once, alike on all nodes; "
            + report.verification.summary
        return report
    }

    // MARK: Dividing

    private func divide(_ cluster: BenchCluster, _ plan: DivisionPlan, _ keys: [Bytes]) async throws
    {
        let any = cluster.nodes[0]
        var parts = plan.parts
        if !plan.first.isEmpty {
            let made = try await split(any, plan.first.map { keys[$0] })
            try await spread(made, over: cluster)
        }
        // The longest first: none is left alone at the end.
        parts.sort { $0.count > $1.count }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (turn, part) in parts.enumerated() where !part.isEmpty {
                if turn >= Self.atOnce { try await group.next() }
                let node = cluster.nodes[turn % cluster.nodes.count]
                group.addTask {
                    for command in part { _ = try await split(node, command.map { keys[$0] }) }
                }
            }
            try await group.waitForAll()
        }
    }

    private func split(_ node: Node, _ keys: [Bytes]) async throws -> [RegionInfo] {
        do throws(RequestError) {
            return try await node.split(at: keys, timeout: Self.timeout)
        } catch {
            throw BenchFailure("A region was not divided: \(error)")
        }
    }

    /// Hands the leadership of regions to all nodes in turn.
    private func spread(_ regions: [RegionInfo], over cluster: BenchCluster) async throws {
        let nodes = cluster.nodes.compactMap(\.core.nodeID)
        for (turn, info) in regions.enumerated() {
            let heir = nodes[turn % nodes.count]
            try await until("The leaders were not spread") {
                let report = try? await cluster.nodes[0].members(
                    of: info.region, .transfer(heir), timeout: .seconds(10))
                return report?.leader == heir
            }
        }
    }

    /// Waits until every node has every region, and each of them a leader that says so itself.
    private func settle(_ cluster: BenchCluster) async throws {
        try await until("Not every region has come to be, and to be led, on every node") {
            let views = cluster.nodes.map(\.regions)
            let led = zip(cluster.nodes, views).reduce(0) { sum, pair in
                sum + pair.1.count { $0.leader == pair.0.core.nodeID }
            }
            return views.allSatisfy { $0.count == settings.regions } && led == settings.regions
        }
    }

    /// Whether every division has told that all its regions serve. Of a region whose first leader was replaced
    /// before that nobody tells: it is not waited for long.
    private func awaitService(_ cluster: BenchCluster) async throws -> Bool {
        let end = BenchClock.now() + 5_000_000_000
        while BenchClock.now() < end {
            let records = cluster.nodes.flatMap { $0.core.splitRecords() }
            if records.allSatisfy({ $0.servedAt != nil }) { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    private func until(_ what: String, _ holds: () async -> Bool) async throws {
        let end = BenchClock.now() + UInt64(Self.patience * 1e9)
        while await !holds() {
            guard BenchClock.now() < end else {
                throw BenchFailure("\(what) within \(Int(Self.patience)) s.")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    // MARK: Checking

    /// What is wrong with the regions; nil: they cover every key once, and all nodes say the same.
    private func coverage(_ cluster: BenchCluster) -> String? {
        let views = cluster.nodes.map { $0.regions.map { ($0.region, $0.range) } }
        for (node, view) in zip(cluster.nodes, views) {
            if let wrong = Self.difference(view.map(\.1)) { return "\(node.address): \(wrong)" }
            if !zip(view, views[0]).allSatisfy({ $0.0 == $1.0 && $0.1 == $1.1 }) {
                return "\(node.address) has other regions than \(cluster.nodes[0].address)"
            }
        }
        return nil
    }

    /// What keeps ascending ranges from covering each key once; nil: nothing.
    static func difference(_ ranges: [KeyRange]) -> String? {
        guard let first = ranges.first, let last = ranges.last else { return "there is no region" }
        guard first.lower.isEmpty else { return "the first region does not begin at the first key" }
        guard last.upper.isEmpty else { return "the last region does not end behind the last key" }
        for (number, pair) in zip(ranges, ranges.dropFirst()).enumerated()
        where pair.0.upper != pair.1.lower || pair.0.upper.isEmpty {
            return "region \(number + 1) of \(ranges.count) does not end where the next one begins"
        }
        return nil
    }

    /// Puts every key once.
    private func write(_ clients: ClientLane, _ workload: Workload) async throws {
        func refresh() async {
            guard let topology = await clients.target.topology() else { return }
            clients.use(
                OwnedKeys(node: topology.node, topology: topology, workload: workload))
        }
        try await until("No region had a leader") {
            guard let topology = await clients.target.topology() else { return false }
            return topology.regions.allSatisfy { $0.leader != nil }
        }
        await refresh()
        clients.start(preloading: true)
        let end = BenchClock.now() + UInt64(Self.patience * 1e9)
        while clients.waiting > 0 {
            guard BenchClock.now() < end else { throw BenchFailure("The writes did not end.") }
            try await Task.sleep(for: .milliseconds(5))
            if clients.needsTopology { await refresh() }
            clients.tick()
        }
    }
}
