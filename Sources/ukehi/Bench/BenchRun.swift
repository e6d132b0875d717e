// The whole of one run: directories, disk ceiling, nodes or connections, clients, load, verification.

import Glibc
import NIOCore
import NIOPosix
import Ukehi
import UkehiBase
import UkehiNode
import UkehiWAL

/// Carries out one run and cleans up behind it.
struct BenchRun: Sendable {
    let settings: BenchSettings

    /// The report, verified.
    func run() async throws -> BenchReport {
        let input = try settings.input.map { path throws(BenchFileError) in
            try InputFile(path: path)
        }
        let workload = Workload(settings: settings, input: input)
        let plot = try settings.plot.map { path throws(BenchFileError) in
            try ChunkWriter(path: path)
        }
        let logs = ClientLane.Logs(
            acks: try settings.ackLog.map { path throws(BenchFileError) in
                try ChunkWriter(path: path)
            },
            history: try settings.history.map { path throws(BenchFileError) in
                try ChunkWriter(path: path)
            })
        let report =
            settings.endpoints.isEmpty
            ? try await runOwnNodes(workload, logs) : try await runEndpoints(workload, logs)
        try logs.acks?.finish()
        try logs.history?.finish()
        plot?.append(Bytes(report.picture))
        try plot?.finish()
        return report
    }

    // MARK: Own nodes

    private func runOwnNodes(
        _ workload: Workload, _ logs: ClientLane.Logs
    ) async throws -> BenchReport {
        let directory: String
        if let chosen = settings.dataDirectory {
            try DirectoryTree.create(chosen)
            directory = chosen
        } else {
            directory = try DirectoryTree.createFresh(in: "bench-data")
        }
        let isTemporary = settings.dataDirectory == nil && !settings.keepsData
        defer {
            if isTemporary {
                DirectoryTree.remove(directory)
                rmdir("bench-data")  // Stays when another run is in it.
            }
        }
        say("  measuring the disk in \(directory)")
        let disk = try DiskCeiling.measure(in: directory, seconds: 2)
        say("  starting \(settings.nodes) nodes, \(settings.regions) regions")
        let cluster = try await BenchCluster.start(settings, directory: directory)
        do {
            let targets = cluster.nodes.map { NodeTarget($0.core) }
            let clients = try await makeClients(targets, workload) { place, range in
                switch settings.clientMode {
                case .async:
                    AsyncClients(
                        node: cluster.nodes[place.part.first], workload: workload, clients: range,
                        seed: settings.seed, ackLog: logs.acks)
                case .callback: lane(place, range, workload, logs)
                }
            }
            let nodes = cluster.nodes
            let splitter = settings.splits.map {
                Splitter(
                    node: nodes[0], keys: workload.allKeys().sorted(), count: $0,
                    seconds: settings.durationSeconds)
            }
            let load = LoadRun(
                settings: settings, workload: workload, clients: clients,
                logCounters: {
                    nodes.map { node in
                        let now = node.core.log.statistics
                        return LogCounters(fsyncs: now.syncs, bytesWritten: now.bytesWritten)
                    }
                },
                glance: {
                    ClusterGlance(
                        nodes.compactMap { $0.core.topology },
                        splits: nodes.reduce(0) { $0 + $1.core.splitRecords().count })
                }, isWatched: isWatched, began: { splitter?.start() }, progress: say)
            var report = try await load.run()
            report.disk = disk
            if let reason = try await splitter?.finish() {
                throw BenchFailure("Not everything was divided: \(reason)")
            }
            say("  verifying")
            report.regionsInUse = await regionsInUse(targets[0], workload)
            report.verification = try await Verification(
                settings: settings, workload: workload, clients: clients, targets: targets
            ).run()
            // By now each of them serves: all keys were read.
            report.splits = SplitEvent.events(
                nodes.flatMap { $0.core.splitRecords() }, since: report.startedAt)
            await cluster.stop()
            return report
        } catch {
            await cluster.stop()
            throw error
        }
    }

    /// Regions that own at least one of the load's keys.
    private func regionsInUse(_ target: RequestTarget, _ workload: Workload) async -> Int {
        guard let topology = await target.topology() else { return 0 }
        // A sample finds every region that matters: those it misses hold less than a thousandth.
        let sample = min(workload.keyCount, 20_000)
        let step = workload.keyCount / max(sample, 1)
        var keys: [Bytes]
        if case .input = workload.source {
            keys = Array(workload.allKeys().prefix(sample))
        } else {
            keys = (0..<sample).compactMap { workload.generatedKey($0 * step) }
        }
        keys.sort()
        return topology.regions.count { region in
            // The first key at or past the region's start.
            var low = 0
            var high = keys.count
            while low < high {
                let middle = (low + high) / 2
                if keys[middle] < region.range.lower { low = middle + 1 } else { high = middle }
            }
            return low < keys.count && region.range.contains(keys[low])
        }
    }

    // MARK: Endpoints

    private func runEndpoints(
        _ workload: Workload, _ logs: ClientLane.Logs
    ) async throws -> BenchReport {
        let loops = MultiThreadedEventLoopGroup(
            numberOfThreads: min(
                settings.endpoints.count, max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))))
        var targets: [ConnectionTarget] = []
        do {
            for endpoint in settings.endpoints {
                targets.append(try await ConnectionTarget.connect(endpoint, on: loops.next()))
            }
            let reached = targets
            let clients = try await makeClients(reached, workload) { place, range in
                lane(place, range, workload, logs)
            }
            var report = try await LoadRun(
                settings: settings, workload: workload, clients: clients, logCounters: { [] },
                glance: {
                    var found: [Topology] = []
                    for target in reached {
                        if let one = await target.topology() { found.append(one) }
                    }
                    return ClusterGlance(found, splits: nil)
                }, isWatched: isWatched, progress: say
            ).run()
            say("  verifying")
            report.regionsInUse = await regionsInUse(reached[0], workload)
            report.verification = try await Verification(
                settings: settings, workload: workload, clients: clients, targets: reached
            ).run()
            for target in targets { await target.close() }
            try await loops.shutdownGracefully()
            return report
        } catch {
            for target in targets { await target.close() }
            try await loops.shutdownGracefully()
            throw error
        }
    }

    // MARK: Both

    /// Where a lane of clients sends what it does, and which part of all keys it preloads.
    private struct Place {
        var target: RequestTarget
        var part: (first: Int, of: Int)
    }

    private func lane(
        _ place: Place, _ range: Range<Int>, _ workload: Workload, _ logs: ClientLane.Logs
    ) -> ClientLane {
        ClientLane(
            target: place.target, workload: workload, clients: range,
            totalClients: settings.clients, seed: settings.seed, logs: logs,
            part: workload.distribution == nil ? (0, 1) : place.part)
    }

    /// Shares the clients among the nodes: those that lead at least one of the load's keys; or, where keys are
    /// drawn from a distribution, all of them, and each client may use every key.
    private func makeClients(
        _ targets: [RequestTarget], _ workload: Workload,
        make: (Place, Range<Int>) -> any LoadClients
    ) async throws -> [any LoadClients] {
        let routed = workload.distribution == nil ? nil : RoutedTarget(targets)
        let candidates = routed.map { [$0] } ?? targets
        let deadline = BenchClock.now() + 60_000_000_000
        var leading: [Int] = []
        while true {
            leading = []
            var isComplete = true
            for (position, target) in candidates.enumerated() {
                guard let topology = await target.topology(), !topology.regions.isEmpty,
                    topology.regions.allSatisfy({ $0.leader != nil })
                else {
                    isComplete = false
                    break
                }
                let owned = OwnedKeys(
                    node: topology.node, topology: topology, workload: workload)
                if !owned.isEmpty { leading.append(position) }
            }
            if isComplete && !leading.isEmpty { break }
            guard BenchClock.now() < deadline else {
                throw BenchFailure(
                    "No load was started: a region had no leader for 60 s"
                        + (settings.endpoints.isEmpty ? "." : ", or none among the endpoints."))
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        let places =
            routed.map { routed in
                let count = min(targets.count, settings.clients)
                return (0..<count).map { Place(target: routed, part: ($0, count)) }
            } ?? leading.map { Place(target: targets[$0], part: ($0, targets.count)) }
        var clients: [any LoadClients] = []
        for (turn, place) in places.enumerated() {
            let start = settings.clients * turn / places.count
            let end = settings.clients * (turn + 1) / places.count
            if end > start { clients.append(make(place, start..<end)) }
        }
        return clients
    }

    /// Whether somebody looks at what is printed while it runs.
    private var isWatched: Bool { isOutputWatched && !settings.isJSON }

    private func say(_ line: String) {
        if settings.isJSON {
            printError(line)
        } else {
            printLine(line)
            flushOutput()
        }
    }
}
