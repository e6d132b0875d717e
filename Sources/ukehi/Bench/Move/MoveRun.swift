// One run of `ukehi bench move`.
//
//   four nodes, one region on three of them ──> filled ──> load: before | moved | after ──> verified
//
// All of it is in one process: what the nodes do for the move takes processor time from the load as it
// would on nodes that do nothing else, and that of the new node besides.

import Glibc
import Synchronization
import Ukehi
import UkehiBase
import UkehiNode

/// Carries out one run and clears away behind it.
struct MoveRun: Sendable {
    let settings: MoveSettings
    /// Shows a line of progress.
    let say: @Sendable (String) -> Void

    private static let tickNanoseconds: UInt64 = 5_000_000
    private static let patience = 600.0

    func run() async throws -> MoveReport {
        guard let mix = OperationMix(readRatio: settings.readRatio) else {
            throw BenchFailure("Nothing was started: --read-ratio is 0 to 1.")
        }
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
        say("  starting \(MoveSettings.nodes) nodes")
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

    private func run(_ cluster: BenchCluster, _ bench: BenchSettings) async throws -> MoveReport {
        var report = MoveReport(settings: settings)
        let any = cluster.nodes[0]
        let region = try await region(of: any)
        let first = try await any.members(of: region, timeout: .seconds(60))
        let others = first.members.map(\.node).filter { $0 != first.leader }
        guard others.count == 3 else { throw BenchFailure("The region has not four peers.") }
        say("  taking the region from one node")
        _ = try await change(any, region, to: [first.leader, others[0], others[1]]) {}

        let workload = Workload(settings: bench, input: nil)
        let clients = cluster.nodes.enumerated().map { position, node in
            ClientLane(
                target: NodeTarget(node.core), workload: workload,
                clients: position * settings.clients..<(position + 1) * settings.clients,
                totalClients: MoveSettings.nodes * settings.clients, seed: bench.seed,
                logs: ClientLane.Logs())
        }
        for client in clients { await refresh(client, workload) }
        say("  filling it with \(BenchFormat.count(Double(settings.keys))) keys")
        for client in clients { client.start(preloading: true) }
        try await settle(clients, workload)

        for client in clients { client.start(preloading: false) }
        // What the filling has left to do is not the load's.
        _ = try await measure(clients, workload, seconds: settings.durationSeconds / 2) { false }
        say("  before the move")
        report.before = try await measure(clients, workload, seconds: settings.durationSeconds) {
            false
        }
        say("  moving")
        let move = Task {
            var snapshots: [String: UInt64] = [:]
            let steps = try await change(
                any, region, to: [first.leader, others[0], others[2]]
            ) {
                for node in cluster.nodes {
                    guard let id = node.core.nodeID,
                        let transfers = try? await node.snapshotTransfers(on: id)
                    else { continue }
                    for transfer in transfers where transfer.direction == .sends {
                        snapshots["\(id) \(transfer.peer) \(transfer.totalBytes)"] =
                            transfer.totalBytes
                    }
                }
            }
            return (steps, snapshots.values.reduce(0, +))
        }
        let isMoved = Flag()
        let watch = Task {
            _ = await move.result
            isMoved.set()
        }
        report.during = try await measure(clients, workload, seconds: Self.patience) {
            isMoved.isSet
        }
        await watch.value
        (report.steps, report.snapshotBytes) = try await move.value
        say("  after the move")
        report.after = try await measure(clients, workload, seconds: settings.durationSeconds) {
            false
        }
        for client in clients { client.stop() }
        try await settle(clients, workload)
        say("  verifying")
        let holders: Set<NodeID> = [first.leader, others[0], others[2]]
        report.verification = try await Verification(
            settings: bench, workload: workload, clients: clients,
            targets: cluster.nodes.filter { $0.core.nodeID.map(holders.contains) ?? false }
                .map { NodeTarget($0.core) }
        ).run()
        return report
    }

    private func region(of node: Node) async throws -> RegionID {
        let end = BenchClock.now() + 60_000_000_000
        while BenchClock.now() < end {
            if let region = node.core.topology?.regions.first, region.leader != nil {
                return region.region
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw BenchFailure("No load was started: the region had no leader for 60 s.")
    }

    /// Has these nodes, and no others, hold the region; calls `look` each time it has asked.
    private func change(
        _ node: Node, _ region: RegionID, to nodes: [NodeID], _ look: () async -> Void
    ) async throws -> [String] {
        let end = BenchClock.now() + UInt64(Self.patience * 1e9)
        while BenchClock.now() < end {
            let report = try await node.members(of: region, .set(nodes), timeout: .seconds(60))
            await look()
            switch report.progress {
            case .done: return report.steps
            case .refused: throw BenchFailure("The region was not moved: \(report.reason)")
            case .none, .working, .waiting: try await Task.sleep(for: .milliseconds(100))
            }
        }
        throw BenchFailure("The region was not moved within \(Int(Self.patience)) s.")
    }

    // MARK: The load

    private func refresh(_ client: ClientLane, _ workload: Workload) async {
        guard let topology = await client.target.topology() else { return }
        client.use(OwnedKeys(node: topology.node, topology: topology, workload: workload))
    }

    private func pulse(_ clients: [ClientLane], _ workload: Workload) async throws {
        try await Task.sleep(for: .nanoseconds(Self.tickNanoseconds))
        for client in clients {
            if client.needsTopology { await refresh(client, workload) }
            client.tick()
        }
    }

    private func settle(_ clients: [ClientLane], _ workload: Workload) async throws {
        let end = BenchClock.now() + UInt64(Self.patience * 1e9)
        while clients.contains(where: { $0.waiting > 0 }) {
            guard BenchClock.now() < end else {
                throw BenchFailure("The load did not end within \(Int(Self.patience)) s.")
            }
            try await pulse(clients, workload)
        }
    }

    /// Measures for so many seconds, or until it is over.
    private func measure(
        _ clients: [ClientLane], _ workload: Workload, seconds: Double, isOver: () -> Bool
    ) async throws -> MovePhase {
        for client in clients { client.withTally { $0.beginMeasuring() } }
        let start = BenchClock.now()
        var phase = MovePhase()
        var second = (start: start, operations: UInt64(0))
        while Double(BenchClock.now() - start) < seconds * 1e9, !isOver() {
            try await pulse(clients, workload)
            let now = BenchClock.now()
            guard now - second.start >= 1_000_000_000 else { continue }
            let operations = latencies(clients).total
            phase.perSecond.append(
                Double(operations - second.operations) / Double(now - second.start) * 1e9)
            second = (now, operations)
        }
        phase.seconds = Double(BenchClock.now() - start) / 1e9
        let found = latencies(clients)
        phase.operations = found.total
        phase.latency = found.summary()
        return phase
    }

    private func latencies(_ clients: [ClientLane]) -> LatencyRecorder {
        let all = LatencyRecorder()
        for client in clients {
            client.withTally { tally in
                all.add(tally.writes)
                all.add(tally.reads)
            }
        }
        return all
    }
}

/// Set once, by another task.
private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}
