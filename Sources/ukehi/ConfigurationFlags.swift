// One flag per configuration key, named after it; a test holds them to the list of keys.

import ArgumentParser
import Ukehi

/// `--config` and the flags that override single keys.
struct ConfigurationFlags: ParsableArguments {
    @Option(help: "The configuration file (TOML).") var config: String?

    @Option(help: .key("cluster.node_id")) var clusterNodeId: String?
    @Option(help: .key("cluster.peers")) var clusterPeers: String?
    @Option(help: .key("cluster.data_dir")) var clusterDataDir: String?
    @Option(help: .key("cluster.listen")) var clusterListen: String?
    @Option(help: .key("cluster.advertise")) var clusterAdvertise: String?
    @Option(help: .key("raft.election_timeout_ms")) var raftElectionTimeoutMs: String?
    @Option(help: .key("raft.heartbeat_interval_ms")) var raftHeartbeatIntervalMs: String?
    @Option(help: .key("raft.max_log_entries")) var raftMaxLogEntries: String?
    @Option(help: .key("raft.max_log_mb")) var raftMaxLogMb: String?
    @Option(help: .key("raft.snapshot_interval")) var raftSnapshotInterval: String?
    @Option(help: .key("raft.snapshot_mb_per_second")) var raftSnapshotMbPerSecond: String?
    @Option(help: .key("raft.max_unflushed_log_mb")) var raftMaxUnflushedLogMb: String?
    @Option(help: .key("sharding.num_shards")) var shardingNumShards: String?
    @Option(help: .key("sharding.rebalance_threshold")) var shardingRebalanceThreshold: String?
    @Option(help: .key("sharding.split_threshold_mb")) var shardingSplitThresholdMb: String?
    @Option(help: .key("sharding.split_load_per_second")) var shardingSplitLoadPerSecond: String?
    @Option(help: .key("sharding.merge_threshold_mb")) var shardingMergeThresholdMb: String?
    @Option(help: .key("storage.state")) var storageState: String?
    @Option(help: .key("storage.cache_mb")) var storageCacheMb: String?
    @Option(help: .key("wal.segment_mb")) var walSegmentMb: String?
    @Option(help: .key("wal.compression_threshold_kb"))
    var walCompressionThresholdKb: String?
    @Option(help: .key("wal.scrub_mb_per_second")) var walScrubMbPerSecond: String?
    @Option(help: .key("wal.on_damage")) var walOnDamage: String?
    @Option(help: .key("wal.unsafe_no_fsync")) var walUnsafeNoFsync: String?
    @Option(help: .key("runtime.lanes")) var runtimeLanes: String?

    /// The texts of the flags that were given, by key.
    var overrides: [String: String] {
        let given: [String: String?] = [
            "cluster.node_id": clusterNodeId, "cluster.peers": clusterPeers,
            "cluster.data_dir": clusterDataDir, "cluster.listen": clusterListen,
            "cluster.advertise": clusterAdvertise,
            "raft.election_timeout_ms": raftElectionTimeoutMs,
            "raft.heartbeat_interval_ms": raftHeartbeatIntervalMs,
            "raft.max_log_entries": raftMaxLogEntries, "raft.max_log_mb": raftMaxLogMb,
            "raft.snapshot_interval": raftSnapshotInterval,
            "raft.snapshot_mb_per_second": raftSnapshotMbPerSecond,
            "raft.max_unflushed_log_mb": raftMaxUnflushedLogMb,
            "sharding.num_shards": shardingNumShards,
            "sharding.rebalance_threshold": shardingRebalanceThreshold,
            "sharding.split_threshold_mb": shardingSplitThresholdMb,
            "sharding.split_load_per_second": shardingSplitLoadPerSecond,
            "sharding.merge_threshold_mb": shardingMergeThresholdMb,
            "storage.state": storageState, "storage.cache_mb": storageCacheMb,
            "wal.segment_mb": walSegmentMb,
            "wal.compression_threshold_kb": walCompressionThresholdKb,
            "wal.scrub_mb_per_second": walScrubMbPerSecond,
            "wal.on_damage": walOnDamage, "wal.unsafe_no_fsync": walUnsafeNoFsync,
            "runtime.lanes": runtimeLanes,
        ]
        return given.compactMapValues { $0 }
    }
}

extension ArgumentHelp {
    /// The key's purpose and its default, from the one list of keys.
    fileprivate static func key(_ path: String) -> ArgumentHelp {
        guard let setting = Setting.all.first(where: { $0.path == path }) else { return "" }
        return ArgumentHelp(
            "\(path): \(setting.purpose) (\(setting.allowed)).", valueName: setting.key)
    }
}
