// A node's settings, checked by whoever reads them from people (Ukehi.Configuration).

package import UkehiBase

/// Bounds of one region's core. Nobody but a simulation sets them: small ones reach what large ones hide.
package struct RaftSizes: Sendable {
    /// Entry bytes in one appendEntries; at least one entry is sent.
    package var messageBytes = Limits.maxMessageBytes
    package var inflightMessages = Limits.maxInflightMessages
    /// At least `messageBytes`.
    package var inflightBytes = Limits.maxInflightBytes
    package var committedBytesPerReady = Limits.maxCommittedBytesPerReady
    package var uncommittedBytes = Limits.maxUncommittedBytes

    package init() {}
}

/// What a node needs to be told.
package struct NodeOptions: Sendable {
    package var name: String
    /// Where others reach this node, `host:port`.
    package var address: String
    /// Addresses of the other nodes; empty for a cluster of one.
    package var peers: [String]
    package var electionTimeoutMilliseconds: Int
    package var heartbeatIntervalMilliseconds: Int
    /// The user regions that a new cluster begins with.
    package var initialRanges: [KeyRange]
    /// Applied entries between compactions of a region's log; the greatest number: never.
    package var compactionInterval: Int
    /// Applied entries that a region's log keeps for peers that lag; one that lags further gets a snapshot.
    package var maxLogEntries: Int
    /// The same in bytes, near enough.
    package var maxLogBytes: Int
    /// Whether peers that lag further are left behind at all.
    package var compactsPastLagging = true
    /// Bytes of snapshots that a lane sends in a second.
    package var snapshotBytesPerSecond = 128 << 20
    /// Bytes of a snapshot in one message.
    package var snapshotChunkBytes = 512 << 10
    /// Log bytes above which the state store is asked to flush.
    package var maxUnflushedLogBytes: Int
    /// Operations a second with which a region is divided; 0: none is for its load.
    package var splitLoadPerSecond = LoadRules.usualThreshold
    /// Bytes of keys and values with which a region is divided; 0: none is for its size.
    package var splitBytes = 512 << 20
    package var laneCount: Int
    /// Imbalance of leaderships between nodes that begins to be evened out, as a share; zero: never.
    package var rebalanceThreshold = 0.0
    /// Operations a second by which nodes may differ without anything being done about it.
    package var leastSharedLoad = 1000.0
    package var raft = RaftSizes()

    package init(name: String, address: String = "", peers: [String] = []) {
        self.name = name
        self.address = address
        self.peers = peers
        electionTimeoutMilliseconds = 1000
        heartbeatIntervalMilliseconds = 100
        initialRanges = StaticRanges.ranges(count: 16)
        compactionInterval = 1000
        maxLogEntries = 10_000
        maxLogBytes = 64 << 20
        maxUnflushedLogBytes = 256 << 20
        laneCount = 1
    }

    /// The tick that Raft's timers count in: fine enough that jitter tells candidates apart.
    package var tickMilliseconds: Int {
        max(1, min(heartbeatIntervalMilliseconds, electionTimeoutMilliseconds / 20))
    }
}
