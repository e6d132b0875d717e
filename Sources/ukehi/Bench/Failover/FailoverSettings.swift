// What a run of `ukehi bench failover` was asked to do.

import Glibc
import Ukehi

/// One run.
struct FailoverSettings: Sendable {
    var kills = 20
    var nodes = 3
    var state = BenchState.rocksdb
    /// Nil: a fresh one that is removed at the end.
    var directory: String?

    /// Clients, each with its own connections, that write to every region.
    static let clients = 4
    /// A client begins a write to a region at most this often: so that the machine is not what is
    /// measured.
    static let pauseMilliseconds = 20
    static let valueBytes = 128

    /// What is impossible, all of it at once, each with the option to change.
    var problems: [String] {
        var problems: [String] = []
        if !(1...100_000).contains(kills) { problems.append("--kills must be 1 to 100000") }
        if ![3, 5, 7, 9].contains(nodes) {
            problems.append("--nodes must be 3, 5, 7 or 9: fewer cannot go on without one")
        }
        if state == .none {
            problems.append("--state must be rocksdb or memory: none cannot be read back")
        }
        if let directory, let taken = Self.taken(directory, nodes) {
            problems.append("--data-dir has \(taken) already: remove it, or name another directory")
        }
        return problems
    }

    /// What is in the way of the nodes' directories.
    private static func taken(_ directory: String, _ nodes: Int) -> String? {
        (1...max(nodes, 1)).map { "\(directory)/node-\($0)" }.first { access($0, F_OK) == 0 }
    }

    var json: JSONValue {
        let defaults = Configuration()
        return .object([
            ("nodes", .int(nodes)), ("state", .string(state.rawValue)),
            ("regions", .int(defaults.sharding.shardCount)),
            ("election_timeout_ms", .int(defaults.raft.electionTimeoutMilliseconds)),
            ("heartbeat_interval_ms", .int(defaults.raft.heartbeatIntervalMilliseconds)),
            ("clients", .int(Self.clients)),
            ("pause_ms", .int(Self.pauseMilliseconds)),
            ("value_bytes", .int(Self.valueBytes)),
        ])
    }
}
