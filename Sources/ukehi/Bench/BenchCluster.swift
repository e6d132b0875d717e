// The benchmark's own nodes: a real cluster over loopback TCP, in this process, each node with a
// directory of its own.

import Glibc
import Logging
import Ukehi
import UkehiNode

/// N nodes and their directories.
final class BenchCluster: Sendable {
    let nodes: [Node]
    /// Where the nodes' directories are.
    let directory: String

    private init(nodes: [Node], directory: String) {
        self.nodes = nodes
        self.directory = directory
    }

    /// Starts the nodes and returns when all of them have their regions open.
    ///
    /// - Throws: What a node's start throws; nodes already started are stopped.
    static func start(_ settings: BenchSettings, directory: String) async throws -> BenchCluster {
        let ports = try LoopbackPorts.free(settings.nodes)
        var nodes: [Node] = []
        do {
            for number in 0..<settings.nodes {
                let nodeDirectory = "\(directory)/node-\(number + 1)"
                try DirectoryTree.create(nodeDirectory)
                nodes.append(
                    try await Node.start(
                        configuration: configuration(
                            settings, number: number, ports: ports, directory: nodeDirectory),
                        logger: logger))
            }
            for node in nodes { try await node.ready() }
        } catch {
            for node in nodes { await node.stop() }
            throw error
        }
        return BenchCluster(nodes: nodes, directory: directory)
    }

    /// Stops all nodes.
    func stop() async { for node in nodes { await node.stop() } }

    /// What a node reports at this level and above is shown; the rest would be lost in the table.
    private static var logger: Logger {
        var logger = Logger(label: "ukehi") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .error
        return logger
    }

    private static func configuration(
        _ settings: BenchSettings, number: Int, ports: [Int], directory: String
    ) -> Configuration {
        var configuration = Configuration()
        configuration.cluster.nodeID = "node-\(number + 1)"
        configuration.cluster.listen = "127.0.0.1:\(ports[number])"
        configuration.cluster.peers = ports.enumerated().filter { $0.offset != number }.map {
            "127.0.0.1:\($0.element)"
        }
        configuration.cluster.dataDirectory = directory
        configuration.sharding.shardCount = settings.regions
        configuration.wal.unsafeNoFsync = !settings.isSynced
        configuration.storage.state =
            switch settings.state {
            case .rocksdb: .rocksdb
            case .memory: .memory
            case .none: .none
            }
        // The nodes share the machine: a lane each, more only where there are cores for them.
        let cores = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        configuration.runtime.lanes = max(1, cores / 2 / settings.nodes)
        settings.configure(&configuration)
        return configuration
    }
}
