// How a node is set up: the values, and nothing about where they come from.
//
// Each property here is one key of the file; Configuration+Settings.swift lists them as data (names,
// bounds, what they are for), Configuration+Loading.swift fills them from a file, the environment
// and flags. All three ways, and code that sets the properties itself, pass the same checks.

/// A node's configuration. The defaults suit one node on one machine; a cluster needs
/// ``Cluster/nodeID``, ``Cluster/listen`` and ``Cluster/peers``.
///
/// ```swift
/// var configuration = Configuration(directory: "./data")
/// configuration.sharding.shardCount = 4
/// let node = try await Node.start(configuration: configuration)
/// ```
public struct Configuration: Hashable, Sendable {
    /// Who this node is and whom it talks to.
    public struct Cluster: Hashable, Sendable {
        /// `cluster.node_id`: the node's name, fixed once its directory is made.
        public var nodeID = "node-1"
        /// `cluster.peers`: where the other nodes of a new cluster are reached. Empty: this node is
        /// a cluster of its own.
        public var peers: [String] = []
        /// `cluster.data_dir`: what the node keeps; one directory, one node, one process.
        public var dataDirectory = "./data"
        /// `cluster.listen`: where peers and clients connect, as `host:port`; port 0 takes any.
        public var listen = "127.0.0.1:7878"
        /// `cluster.advertise`: what others are told to connect to; empty: `listen`.
        public var advertise = ""
    }

    /// Consensus and how much log is kept.
    public struct Raft: Hashable, Sendable {
        /// `raft.election_timeout_ms`: a dead leader is replaced within about this time.
        public var electionTimeoutMilliseconds = 1000
        /// `raft.heartbeat_interval_ms`: how often a leader that has nothing else to say speaks.
        public var heartbeatIntervalMilliseconds = 100
        /// `raft.max_log_entries`: kept for lagging peers before a snapshot is sent instead.
        public var maxLogEntries = 10_000
        /// `raft.max_log_mb`: the same in bytes, per region.
        public var maxLogMegabytes = 64
        /// `raft.snapshot_interval`: applied entries between compactions of a region's log.
        public var snapshotInterval = 1000
        /// `raft.snapshot_mb_per_second`: how fast a node sends snapshots to peers that lag; 0: as fast
        /// as they take them.
        public var snapshotMegabytesPerSecond = 128
        /// `raft.max_unflushed_log_mb`: the state store is flushed when more log than this depends
        /// on it.
        public var maxUnflushedLogMegabytes = 256
    }

    /// How the keys are divided.
    public struct Sharding: Hashable, Sendable {
        /// `sharding.num_shards`: regions a new cluster starts with.
        public var shardCount = 16
        /// `sharding.rebalance_threshold`: imbalance that starts balancing, as a fraction.
        public var rebalanceThreshold = 0.2
        /// `sharding.split_threshold_mb`: a region larger than this splits.
        public var splitThresholdMegabytes = 512
        /// `sharding.split_load_per_second`: a region that does more operations than this splits, where a
        /// key shares its load; 0: none does.
        public var splitLoadPerSecond = 10_000
        /// `sharding.merge_threshold_mb`: neighbours together smaller than this merge.
        public var mergeThresholdMegabytes = 64
    }

    /// Where the applied state lives.
    public struct Storage: Hashable, Sendable {
        /// The kinds of state store.
        public enum State: String, Hashable, Sendable, CaseIterable {
            /// RocksDB in the data directory.
            case rocksdb
            /// In memory; rebuilt from the log at start.
            case memory
            /// Applies nothing and keeps a digest of the log: for measuring the log alone.
            case none
        }
        /// `storage.state`.
        public var state = State.rocksdb
        /// `storage.cache_mb`: RocksDB's block cache.
        public var cacheMegabytes = 256
    }

    /// The shared log.
    public struct WAL: Hashable, Sendable {
        /// `wal.segment_mb`: size of a log file, reserved ahead.
        public var segmentMegabytes = 128
        /// `wal.compression_threshold_kb`: entries of one region that are written together and are
        /// this long are compressed, if that saves something; 0: never.
        public var compressionThresholdKilobytes = 8
        /// `wal.scrub_mb_per_second`: how fast full segments are read in the background and checked;
        /// 0: not at all.
        public var scrubMegabytesPerSecond = 64
        /// What becomes of entries that the log holds and cannot read.
        public enum OnDamage: String, Hashable, Sendable, CaseIterable {
            /// The node runs, and gets them back from its peers. Meanwhile it votes for their regions
            /// but leads none of them. Where more than entries is damaged, it is as with `refuse`.
            case repair
            /// The node does not start, or stops where it runs, with exit code 20; nothing is changed.
            case refuse
        }
        /// `wal.on_damage`; nil: ``OnDamage/repair`` for a node with peers, ``OnDamage/refuse`` for one
        /// that is alone.
        public var onDamage: OnDamage?
        /// `wal.unsafe_no_fsync`: acknowledges writes that a power cut may lose. For measuring what
        /// the disk costs; never for data.
        public var unsafeNoFsync = false
    }

    /// Threads.
    public struct Runtime: Hashable, Sendable {
        /// `runtime.lanes`: event loops that share the regions; 0: one per two cores.
        public var lanes = 0
    }

    public var cluster = Cluster()
    public var raft = Raft()
    public var sharding = Sharding()
    public var storage = Storage()
    public var wal = WAL()
    public var runtime = Runtime()

    /// The defaults.
    public init() {}

    /// One node that is a cluster of its own, keeping everything in `directory` and listening on a
    /// free port of the loopback interface.
    public init(directory: String) {
        cluster.dataDirectory = directory
        cluster.listen = "127.0.0.1:0"
    }

    /// Throws every fault of the values, and of values together, at once.
    public func validate() throws(ConfigurationError) {
        let problems = Setting.all.compactMap { $0.check(self) } + combinationProblems()
        guard problems.isEmpty else { throw ConfigurationError(problems: problems) }
    }
}

/// Every fault of a configuration, found in one go. Nothing was started or changed.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One fault.
    public struct Problem: Hashable, Sendable, CustomStringConvertible {
        /// The key, as `raft.election_timeout_ms`; empty when no single key is to blame.
        public var path: String
        /// Where the value was given, as `node.toml` or `UKEHI_RAFT_MAX_LOG_MB`; empty: in code.
        public var source: String
        /// What is wrong.
        public var reason: String
        /// What would be right; empty when the reason says it.
        public var allowed: String

        /// One fault.
        public init(path: String, source: String = "", reason: String, allowed: String = "") {
            self.path = path
            self.source = source
            self.reason = reason
            self.allowed = allowed
        }

        /// `raft.max_log_mb (node.toml): "many" is text; allowed: an integer from 1 to 65536`.
        public var description: String {
            var text = path
            if !source.isEmpty { text += text.isEmpty ? source : " (\(source))" }
            if !text.isEmpty { text += ": " }
            text += reason
            if !allowed.isEmpty { text += "; allowed: \(allowed)" }
            return text
        }
    }
    /// All of them, in the order of the keys.
    public var problems: [Problem]

    /// The faults as one error.
    public init(problems: [Problem]) { self.problems = problems }

    public var description: String {
        let head =
            problems.count == 1
            ? "the configuration was refused:"
            : "the configuration was refused, \(problems.count) faults:"
        return ([head] + problems.map { "  \($0)" }).joined(separator: "\n")
    }
}
