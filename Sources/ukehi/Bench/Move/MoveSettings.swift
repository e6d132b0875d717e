// What a run of `ukehi bench move` was asked to do.

import UkehiNode

/// One run.
struct MoveSettings: Sendable {
    /// Keys and values of the region that is moved.
    var bytes = 1 << 30
    var valueBytes = 1024
    var readRatio = 0.0
    var clients = 256
    var state = BenchState.rocksdb
    /// Measured before the move, and after it.
    var durationSeconds = 10.0
    /// Where the fresh directory goes; nil: `./bench-data`.
    var directory: String?

    static let keyBytes = 16
    /// Three hold the region, the fourth gets it.
    static let nodes = 4

    var keys: Int { max(1, bytes / (Self.keyBytes + valueBytes)) }

    /// What is impossible, all of it at once, each with the option to change.
    var problems: [String] {
        var problems: [String] = []
        if !(1 << 20...1 << 40).contains(bytes) {
            problems.append("--bytes must be 1MiB to 1024GiB")
        }
        if !(16...Limits.maxValueBytes).contains(valueBytes) {
            problems.append("--value-bytes must be 16 to \(Limits.maxValueBytes)")
        }
        if !(1...100_000_000).contains(keys) {
            problems.append("--bytes and --value-bytes make \(keys) keys: at most 100000000")
        }
        if OperationMix(readRatio: readRatio) == nil {
            problems.append("--read-ratio must be 0 to 1")
        }
        if !(1...100_000).contains(clients) { problems.append("--clients must be 1 to 100000") }
        if !(1...3600).contains(durationSeconds) {
            problems.append("--duration must be 1 to 3600 seconds")
        }
        if state == .none {
            problems.append("--state must be rocksdb or memory: none holds nothing")
        }
        return problems
    }

    /// As the cluster and its clients take them.
    func bench(_ mix: OperationMix) -> BenchSettings {
        var settings = BenchSettings(mix: mix)
        settings.nodes = Self.nodes
        settings.regions = 1
        settings.clients = clients
        settings.keyBytes = Self.keyBytes
        settings.valueBytes = valueBytes
        settings.keys = keys
        settings.state = state
        return settings
    }

    var json: JSONValue {
        .object([
            ("bytes", .int(bytes)), ("value_bytes", .int(valueBytes)), ("keys", .int(keys)),
            ("key_bytes", .int(Self.keyBytes)), ("read_ratio", .number(readRatio)),
            ("clients", .int(clients)), ("nodes", .int(Self.nodes)),
            ("state", .string(state.rawValue)), ("duration_seconds", .number(durationSeconds)),
        ])
    }
}
