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
            let clients = try await makeClients(targets, workload) { position, range in
                switch settings.clientMode {
                case .async:
                    AsyncClients(
                        node: cluster.nodes[position], workload: workload, clients: range,
                        seed: settings.seed, ackLog: logs.acks)
                case .callback:
                    ClientLane(
                        target: targets[position], workload: workload, clients: range,
                        totalClients: settings.clients, seed: settings.seed, logs: logs)
                }
            }
            let nodes = cluster.nodes
            let load = LoadRun(
                settings: settings, workload: workload, clients: clients,
                logCounters: {
                    nodes.map { node in
                        let now = node.core.log.statistics
                        return LogCounters(fsyncs: now.syncs, bytesWritten: now.bytesWritten)
                    }
                }, progress: say)
            var report = try await load.run()
            report.disk = disk
            say("  verifying")
            report.regionsInUse = await regionsInUse(targets[0], workload)
            report.verification = try await Verification(
                settings: settings, workload: workload, clients: clients, targets: targets
            ).run()
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
        var keys: [Bytes]
        if case .input = workload.source {
            keys = Array(workload.allKeys().prefix(sample))
        } else {
            keys = (0..<sample).compactMap { workload.generatedKey($0) }
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
            let clients = try await makeClients(reached, workload) { position, range in
                ClientLane(
                    target: reached[position], workload: workload, clients: range,
                    totalClients: settings.clients, seed: settings.seed, logs: logs)
            }
            var report = try await LoadRun(
                settings: settings, workload: workload, clients: clients, logCounters: { [] },
                progress: say
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

    /// Shares the clients among the nodes that lead at least one of the load's keys.
    private func makeClients(
        _ targets: [RequestTarget], _ workload: Workload,
        make: (Int, Range<Int>) -> any LoadClients
    ) async throws -> [any LoadClients] {
        let deadline = BenchClock.now() + 60_000_000_000
        var leading: [Int] = []
        while true {
            leading = []
            var isComplete = true
            for (position, target) in targets.enumerated() {
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
                throw BenchFailure("No load was started: a region had no leader for 60 s.")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        var clients: [any LoadClients] = []
        for (turn, position) in leading.enumerated() {
            let start = settings.clients * turn / leading.count
            let end = settings.clients * (turn + 1) / leading.count
            if end > start { clients.append(make(position, start..<end)) }
        }
        return clients
    }

    private func say(_ line: String) {
        if settings.isJSON {
            printError(line)
        } else {
            printLine(line)
            flushOutput()
        }
    }
}
