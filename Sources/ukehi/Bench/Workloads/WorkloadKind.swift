// The workloads that have a name: which keys are used how often, and for what.
//
// In all of them each operation's key is drawn from the whole key space, and goes to the node that leads its
// region (RoutedTarget.swift): the load has the distribution that its name says, wherever the leaders are. Several
// clients use one key at the same time; the verification rests on versions, which a key's writes never have twice
// and which never go backwards: the acknowledged write of the highest version is the last one, whichever client
// made it.

/// What `--workload` names.
enum WorkloadKind: String, CaseIterable, Sendable {
    case uniform, zipf
    case hotRange = "hot-range"
    case sequential
    case ycsbA = "ycsb-a"
    case ycsbB = "ycsb-b"
    case ycsbC = "ycsb-c"
    case ycsbF = "ycsb-f"

    /// The operations of those workloads that fix them, as YCSB's core workloads do.
    var mix: OperationMix? {
        switch self {
        case .uniform, .zipf, .hotRange, .sequential: nil
        case .ycsbA: OperationMix(parsing: "get=50,put=50")
        case .ycsbB: OperationMix(parsing: "get=95,put=5")
        case .ycsbC: OperationMix(parsing: "get=100")
        case .ycsbF: OperationMix(parsing: "get=50,modify=50")
        }
    }

    /// Where keys lie by their numbers.
    var order: KeySpace.Order {
        switch self {
        case .uniform, .zipf, .ycsbA, .ycsbB, .ycsbC, .ycsbF: .scattered
        case .hotRange: .ascending
        case .sequential: .appended
        }
    }

    /// In a few words, for titles.
    func summary(_ hot: HotKeys) -> String {
        switch self {
        case .uniform: "uniform: every key alike"
        case .zipf: "zipf 0.99, scrambled"
        case .hotRange:
            "hot-range: \(BenchFormat.ratio(hot.operations * 100)) % of operations on "
                + "\(BenchFormat.ratio(hot.keys * 100)) % of the keys, side by side"
        case .sequential: "sequential: new keys at the end"
        case .ycsbA: "ycsb-a: 50 % reads, 50 % updates, zipf 0.99"
        case .ycsbB: "ycsb-b: 95 % reads, 5 % updates, zipf 0.99"
        case .ycsbC: "ycsb-c: reads, zipf 0.99"
        case .ycsbF: "ycsb-f: 50 % reads, 50 % read-modify-writes, zipf 0.99"
        }
    }
}

/// A part of the key space that is used more than the rest.
struct HotKeys: Equatable, Sendable {
    /// The share of the operations.
    var operations = 0.9
    /// The share of the keys.
    var keys = 0.01
}
