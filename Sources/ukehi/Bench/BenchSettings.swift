// What a run was asked to do, checked: everything the clients, the cluster and the report need.

import Ukehi
import UkehiNode

/// Where the regions' data goes.
enum BenchState: String, CaseIterable, Sendable {
    /// RocksDB, the default of a node.
    case rocksdb
    /// In memory, for data that fits.
    case memory
    /// Nothing is applied: the log alone, verified by digests over it.
    case none
}

/// How the clients call the node.
enum BenchClientMode: String, CaseIterable, Sendable {
    /// A reply is a call on the lane, which makes the next request.
    case callback
    /// Each client is a Swift task that awaits.
    case async
}

/// How fresh reads must be.
enum BenchReadMode: String, CaseIterable, Sendable {
    case linearizable, lease, stale

    var mode: ReadMode {
        switch self {
        case .linearizable: .linearizable
        case .lease: .lease
        case .stale: .stale
        }
    }
}

/// One run.
struct BenchSettings: Sendable {
    var nodes = 3
    var regions = 48
    var clients = 1024
    var keyBytes = 16
    var valueBytes = 128
    var mix: OperationMix
    var readMode = BenchReadMode.linearizable
    var durationSeconds = 10.0
    /// What is measured lasts at least until so many operations were answered.
    var leastAnswers: UInt64 = 1
    var warmUpSeconds = 1.0
    var state = BenchState.rocksdb
    var clientMode = BenchClientMode.callback
    /// Nil: each client uses the keys that its node leads, all alike.
    var workload: WorkloadKind?
    var hotRange = HotKeys()
    /// Splits that are asked for while it is measured.
    var splits: Int?
    /// Where a picture of the run goes.
    var plot: String?
    /// What its own nodes are to be configured with besides; called last. Unless it says otherwise regions are
    /// not divided, for their load or their size: a benchmark would measure another layout than it was asked for.
    var configure: @Sendable (inout Configuration) -> Void = {
        $0.sharding.splitLoadPerSecond = 0
        $0.sharding.splitThresholdMegabytes = 1 << 20
    }
    /// Nil: a closed loop.
    var rate: OfferedRate?
    var dataDirectory: String?
    var keepsData = false
    var isSynced = true
    var ackLog: String?
    var history: String?
    /// Distinct generated keys.
    var keys = 1_000_000
    var endpoints: [String] = []
    var isJSON = false
    var input: String?
    var seed: UInt64 = 1

    /// Whether every key is put before the load: it is read, or regions can be divided only where there are keys.
    var preloads: Bool { mix.reads || splits != nil }

    /// What is impossible, all of it at once, each with the option to change.
    static func problems(_ settings: BenchSettings) -> [String] {
        var problems: [String] = []
        func check(_ isRight: Bool, _ problem: String) {
            if !isRight { problems.append(problem) }
        }
        check((1...9).contains(settings.nodes), "--nodes must be 1 to 9")
        check(
            (1...StaticRanges.maxCount).contains(settings.regions),
            "--regions must be 1 to \(StaticRanges.maxCount)")
        check((1...1_000_000).contains(settings.clients), "--clients must be 1 to 1000000")
        check(settings.durationSeconds > 0, "--duration must be above 0 seconds")
        check(settings.warmUpSeconds >= 0, "--warm-up must not be negative")
        check((1...100_000_000).contains(settings.keys), "--keys must be 1 to 100000000")
        if settings.input == nil {
            let shortest = KeySpace.minimumKeyBytes(count: UInt64(max(settings.keys, 1)))
            check(
                (shortest...Limits.maxKeyBytes).contains(settings.keyBytes),
                "--key-size must be \(shortest) to \(Limits.maxKeyBytes) for "
                    + "\(settings.keys) distinct keys")
            check(
                (0...Limits.maxValueBytes).contains(settings.valueBytes),
                "--value-size must be 0 to \(Limits.maxValueBytes)")
        } else {
            check(settings.history == nil, "--history needs generated values: drop --input")
        }
        if settings.state == .none {
            check(
                !settings.mix.reads && settings.mix.isPlain,
                "--state none applies nothing, so only puts make sense: drop --read-ratio, --mix and "
                    + "ycsb workloads")
        }
        if settings.history != nil {
            check(
                settings.valueBytes >= ValueGenerator.stampBytes,
                "--history needs values that differ: --value-size must be at least "
                    + "\(ValueGenerator.stampBytes)")
            check(
                settings.clientMode == .callback && settings.state != .none,
                "--history needs --client-mode callback and a --state that keeps data")
        }
        if let workload = settings.workload {
            check(
                settings.clientMode == .callback, "--workload needs --client-mode callback")
            check(settings.input == nil, "--workload draws generated keys: drop --input")
            check(
                workload != .sequential || !settings.mix.reads && settings.mix.isPlain,
                "--workload sequential only appends: drop --read-ratio and --mix")
        }
        if let splits = settings.splits {
            check((1...10_000).contains(splits), "--splits must be 1 to 10000")
            check(splits < settings.keys, "--splits must be fewer than --keys")
            check(settings.state != .none, "--state none cannot be divided: rocksdb or memory")
            check(
                settings.workload != .sequential,
                "--workload sequential puts no keys before, so that nothing can be divided")
        }
        check(
            settings.hotRange == HotKeys() || settings.workload == .hotRange,
            "--hot-operations and --hot-keys belong to --workload hot-range")
        for (option, share) in [
            ("--hot-operations", settings.hotRange.operations),
            ("--hot-keys", settings.hotRange.keys),
        ] {
            check(share > 0 && share < 1, "\(option) must be above 0 and below 1")
        }
        if settings.rate != nil {
            check(
                settings.clientMode == .callback, "--rate needs --client-mode callback")
        }
        if !settings.mix.isPlain {
            check(
                settings.clientMode == .callback,
                "--mix with cas or delete needs --client-mode callback")
        }
        if !settings.endpoints.isEmpty {
            check(
                settings.dataDirectory == nil && settings.isSynced && !settings.keepsData,
                "--endpoint drives nodes that run already: --data-dir, --keep and "
                    + "--unsafe-no-fsync are theirs to choose")
            check(
                settings.clientMode == .callback,
                "--endpoint has callback clients only: drop --client-mode")
        }
        return problems
    }
}
