// Every bound of the node, in one place, with its reason.

import UkehiState

/// Bounds that are not configuration because nobody could choose them well.
package enum Limits {
    /// Members that ids are asked for when a region is divided: more than any region should have.
    static let maxPeersPerRegion = 16

    /// Longest key: an index block of keys stays small, a router compares quickly.
    package static let maxKeyBytes = 4 << 10
    /// Largest value: one entry must fit in a frame with room to spare.
    package static let maxValueBytes = 8 << 20
    /// Commands in one entry: bounds how long one apply holds a lane.
    package static let maxCommandsPerEntry = 256
    /// Bytes of commands in one entry, unless a single command is larger.
    package static let maxPackedEntryBytes = 1 << 20
    /// Requests waiting for a lane.
    package static let maxQueuedRequests = 1 << 16
    /// Bytes of requests waiting for a lane; the same of reads waiting in it.
    package static let maxQueuedRequestBytes = 64 << 20
    /// Of a region's writes that wait until it is divided, which takes milliseconds as a rule.
    static let maxHeldWriteBytes = 4 << 20
    /// Bytes that reads take from memory in one pass of a lane, about; what is more goes to the read thread.
    package static let maxReadBytesInPass = 8 << 20
    /// Of entries that a lane applies itself where the apply thread does nothing: what takes that thread as long as
    /// waking it.
    static let maxApplyBytesOnLane = 4 << 10
    /// The same of what a new region commits first, once in its life: until then it serves nobody.
    static let maxFirstApplyBytesOnLane = 32 << 10
    /// Steps of the log's rewriting that one purge waits for, once a second: a quarter of a gigabyte.
    package static let rewritesPerPurge = 32
    /// What a waiting read counts for beside the bytes of its request.
    package static let readOverheadBytes = 256
    /// Messages from peers waiting for a lane, in bytes; what is over is dropped, since Raft repairs
    /// losses.
    package static let maxQueuedMessageBytes = 64 << 20
    /// Uncommitted bytes of one region's leader (RULES 8).
    package static let maxUncommittedBytes: UInt64 = 32 << 20
    /// Entry bytes in one appendEntries.
    package static let maxMessageBytes: UInt64 = 1 << 20
    /// appendEntries in flight to one peer.
    package static let maxInflightMessages = 256
    /// Entry bytes in flight to one peer (RULES 7).
    package static let maxInflightBytes: UInt64 = 16 << 20
    /// Committed bytes taken from a group at once, so that one pass stays short.
    package static let maxCommittedBytesPerReady: UInt64 = 4 << 20
    /// Entry bytes one region keeps in memory for peers that lag; older ones are read from the log.
    package static let maxCachedBytesPerRegion = 4 << 20
    /// Entry bytes one region keeps in memory until they are applied: all that its leader may have
    /// under way, so that only a follower far behind reads back.
    package static let maxUnappliedCachedBytes = Int(maxUncommittedBytes)
    /// Largest bootstrap record: 10,000 regions of three peers with 4 KiB keys would not be static.
    package static let maxBootstrapBytes = 8 << 20
    /// Ticks until another peer is asked for damaged entries that the last one did not give.
    package static let ticksPerRequestOfEntries: UInt64 = 10
    /// Ticks after which a peer takes the state instead of damaged entries that its leader does not have any more,
    /// while others do not say whether they do.
    static let ticksUntilStateIsAsked: UInt64 = 60
    /// Snapshots that a node makes for others at once, and takes from others (RULES 49).
    package static let maxSnapshotsAtOnce = 2
    /// Seconds after which a region's state in memory is written though little came since the last time.
    package static let secondsUntilKept = 30
    /// Chunks of one incoming snapshot in memory, waiting to be written.
    package static let maxUnwrittenChunks = 4
    /// Ticks after which the state of a region whose peer lags is measured again.
    package static let ticksPerMeasurement: UInt64 = 200
    /// Ticks of silence after which a part of a snapshot is asked for again.
    package static let ticksPerSnapshotRequest: UInt64 = 10
    /// Ticks between introductions of a peer that has not answered yet.
    package static let ticksPerIntroduction: UInt64 = 10
    /// Ticks after which a peer that hears no leader asks whether it is still a member, again and again.
    package static let ticksPerInquiry: UInt64 = 200
    /// Entries that a learner may lack when it is to vote, and a voter when it is counted on.
    package static let maxPromotionLag: UInt64 = 1000
    /// Seconds for which a node counts as alive once it was heard, where somebody calls it dead.
    package static let secondsHeard = 5
    /// Ids that one request takes from the allocator: as many as the largest division needs.
    package static let maxIDsPerRequest = SplitCommand.maxParts * (1 + maxPeersPerRegion)
    /// Ids that a node has in reserve: for some thirty divisions in two.
    package static let idsInReserve = 512
    /// Seconds after which the state is flushed again for divisions that nobody waits for.
    static let secondsUntilDivisionsFlushed: UInt64 = 10
    /// How many times longer than for a word of its sender a snapshot waits for its own disk.
    static let writePatience: UInt64 = 15
    /// Seconds for which the balancer gives a node nothing to lead after its log did not answer.
    static let secondsUntilCalm: UInt64 = 60
    /// Divisions that a node remembers having led.
    package static let maxSplitRecords = 1024
    /// Peers of newer configurations that one peer answers before it knows them.
    package static let maxStrangers = 16
    /// Divisions that a lane has under way at once before it begins another one by itself.
    static let maxSplitsAtOnce = 4
    /// Regions of which it asks at once how large they are.
    static let maxSizesAtOnce = 16
    /// Seconds after which a region is looked at again that could not be divided for its load.
    static let secondsUntilSplitAgain = 60
    /// Seconds after which one is looked at again whose division by size came to nothing.
    static let secondsUntilSizeAgain = 10
    /// Parts of a region that are shown with their load.
    static let maxHotRanges = 8
    /// Regions that one answer shows with their load.
    package static let maxShownLoads = 1000
    /// Reads for peers whose logs are damaged that a lane has under way; further ones are not answered.
    package static let maxPeerReads = 8
    /// Log bytes that a node may hold un-acknowledged before its regions refuse proposals.
    package static let maxUnsubmittedBytes = 32 << 20
}
