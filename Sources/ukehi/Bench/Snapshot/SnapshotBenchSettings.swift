// What a run of `ukehi bench snapshot` was asked to do.

import UkehiState

/// One run.
struct SnapshotBenchSettings: Sendable {
    /// Keys and values of each size.
    var bytes = 1 << 30
    var valueBytes = [128, 1024, 4096]
    var state = BenchState.rocksdb
    var rounds = 3
    /// Where the fresh directory goes; nil: `./bench-data`.
    var directory: String?

    /// What is impossible, all of it at once, each with the option to change.
    var problems: [String] {
        var problems: [String] = []
        if !(1 << 20...1 << 40).contains(bytes) {
            problems.append("--bytes must be 1MiB to 1024GiB")
        }
        if !valueBytes.allSatisfy({ (16...CommandLimits.maxValueBytes).contains($0) }) {
            problems.append("--value-bytes must be 16 to \(CommandLimits.maxValueBytes)")
        }
        if !(1...100).contains(rounds) { problems.append("--rounds must be 1 to 100") }
        if state == .none {
            problems.append("--state must be rocksdb or memory: none holds nothing")
        }
        return problems
    }

    var json: JSONValue {
        .object([
            ("bytes", .int(bytes)), ("state", .string(state.rawValue)), ("rounds", .int(rounds)),
            ("key_bytes", .int(RecordSource.keyBytes)),
            ("compression_level", .int(SnapshotOptions().compressionLevel)),
            ("frame_bytes", .int(SnapshotOptions().frameBytes)),
        ])
    }
}
