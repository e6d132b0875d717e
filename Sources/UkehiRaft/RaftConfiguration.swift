// What one core is told at birth.

public import UkehiBase

/// How reads are made linearizable.
public enum ReadMode: UInt8, Sendable, Hashable {
    /// By asking a quorum whether we still lead. Trusts no clock.
    case quorum
    /// By the election timeout: a leader heard by a quorum within one is taken to lead. Trusts that
    /// ticks pass equally fast everywhere, and needs ``RaftConfiguration/checkQuorum``.
    case lease
}

/// The settings of one peer's core. Sizes are in bytes, times in ticks.
public struct RaftConfiguration: Sendable {
    /// This peer.
    public var id: PeerID
    /// A follower that hears no leader for this long, plus jitter, campaigns.
    public var electionTicks: Int
    /// A leader sends heartbeats this often; less than `electionTicks`.
    public var heartbeatTicks: Int
    /// A random part of the election timeout, in `0..<electionJitterTicks`; nil: `electionTicks`.
    public var electionJitterTicks: Int?
    /// Where the state machine stands at a restart; zero if it restarts from the snapshot.
    public var applied: LogIndex
    /// Storage work goes out as messages and comes back as responses; see ``Ready``.
    public var asyncStorageWrites = false
    /// A leader that a quorum has not answered for an election timeout steps down, and followers
    /// that hear a leader ignore candidates (thesis §6.2; RULES 5).
    public var checkQuorum = false
    /// Ask whether an election could be won before raising the term (thesis §9.6).
    public var preVote = false
    /// Entries in one append; at least one is sent.
    public var maxMessageBytes: UInt64 = .max
    /// Entries handed out to be applied and not acknowledged; nil: `maxMessageBytes`.
    public var maxCommittedBytesPerReady: UInt64?
    /// Commands appended by a leader and not yet applied; more are refused (RULES 8).
    public var maxUncommittedBytes: UInt64 = .max
    /// Appends in flight to one follower.
    public var maxInflightMessages: Int = 256
    /// Bytes in flight to one follower; zero: no bound.
    public var maxInflightBytes: UInt64 = 0
    public var readMode = ReadMode.quorum
    /// Followers refuse proposals instead of sending them to the leader.
    public var disableProposalForwarding = false
    /// A leader steps down once it applies its own removal or demotion (RULES 15).
    public var stepDownOnRemoval = false
    /// Append membership changes that look wrong now. They may be right once applied; whoever sets
    /// this serialises changes by other means.
    public var disableConfChangeValidation = false
    /// Seeds the election jitter, together with `id`: a run can be repeated.
    public var seed: UInt64 = 0

    // What follows is not etcd's, and off unless set.

    /// A membership change that looks wrong now is refused, instead of turned into an empty entry.
    public var refuseInvalidConfChanges = false
    /// A commit advance is told to followers with the next append or heartbeat, or when
    /// ``RawNode/flushCommit()`` says so, not at once: commits of one pass share one message. Entries
    /// proposed one by one are sent together when the next ``Ready`` is taken.
    public var lazyCommitBroadcast = false
    /// A commit advance alone is not worth a storage write: it is persisted with the next one. A
    /// restart then knows an older commit index, never a wrong one.
    public var lazyCommitPersistence = false
    /// Acknowledgements of appends that wait for the same storage write become the newest of them.
    public var coalesceAcknowledgements = false
    /// Who refuses a vote says how far the log is committed, and a candidate that has that entry takes
    /// it from there. Without it a group can be stuck: a leader that a joint change has demoted, and
    /// which applied the change that left it and appended one entry more, has the longest log but does
    /// not campaign; the others have the change in their logs, do not know that it is committed, and need
    /// the vote of the old half.
    public var refusalTellsCommit = false
    /// A restarted peer does not campaign until everything up to the commit index it restarted
    /// with is applied, whatever the entries are (RULES 9, 10).
    public var restartCampaignBarrier = false
    /// With asynchronous storage writes, a candidate asks for votes, and leads, only once its own vote is
    /// durable, and with it all of its log that it tells of. Without this a peer that loses its unsynced
    /// term in a power cut can be elected again in the same term, by the same votes, with a log that lacks
    /// what the others voted for, and append other entries under the same index and term (RULES 1). Set
    /// it wherever `asyncStorageWrites` is set.
    public var leadOnlyWithDurableVote = false
    /// Voters that lose their leader campaign one after the other, in an order that they all know, instead
    /// of at random, as far as the jitter has ticks for all of them: their votes are not split between
    /// two that begin at once. Who does not get through tries again at random.
    public var campaignsInTurn = false

    /// Where the group's log begins, if not with nothing: what came before is in no log. A peer whose log does
    /// not reach it is sent a snapshot, however much of the log a leader has, and does not campaign. At most
    /// `UInt32.max`.
    public var beginsAt = LogIndex.zero

    public init(id: PeerID, electionTicks: Int, heartbeatTicks: Int, applied: LogIndex = .zero) {
        self.id = id
        self.electionTicks = electionTicks
        self.heartbeatTicks = heartbeatTicks
        self.applied = applied
    }

    /// Throws ``RaftError/invalidConfiguration(_:)`` with the first thing that is impossible.
    public func validate() throws(RaftError) {
        func require(_ condition: Bool, _ message: String) throws(RaftError) {
            if !condition { throw .invalidConfiguration(message) }
        }
        try require(id.isValid, "id \(id) is reserved")
        try require(heartbeatTicks > 0, "heartbeatTicks must be at least 1")
        try require(
            electionTicks > heartbeatTicks, "electionTicks must be more than heartbeatTicks")
        try require(electionTicks <= 1 << 24, "electionTicks must be at most \(1 << 24)")
        try require((electionJitterTicks ?? 1) >= 1, "electionJitterTicks must be at least 1")
        try require(
            (electionJitterTicks ?? 1) <= 1 << 24, "electionJitterTicks must be at most \(1 << 24)")
        try require(maxInflightMessages > 0, "maxInflightMessages must be at least 1")
        try require(
            maxInflightBytes == 0 || maxInflightBytes >= maxMessageBytes,
            "maxInflightBytes must be at least maxMessageBytes")
        try require(
            readMode != .lease || checkQuorum, "lease reads need checkQuorum")
        try require(
            maxCommittedBytesPerReady != 0, "maxCommittedBytesPerReady must be at least 1")
    }
}

/// How long things take, in ticks, from the one setting that people make (DESIGN 4): the time T in
/// which a dead leader is replaced.
///
///   0          0.4 T   0.5 T             0.85 T           T
///   ├────────────┼───────┼──────────────────┼─────────────┤
///   leader heard │       └─ jitter ─────────┘ last campaign, votes, first entry committed
///                └ lease reads end; votes and campaigns may start at 0.5 T, in turn from the next tick on
public struct RaftTiming: Hashable, Sendable {
    /// Vote lease and earliest campaign: 0.5 T.
    public var electionTicks: Int
    /// Campaigns start within 0.35 T after that.
    public var electionJitterTicks: Int
    public var heartbeatTicks: Int
    /// Lease reads are served for 0.4 T after the heartbeat that a quorum answered was sent.
    public var leaseTicks: Int

    /// Rounds so that no phase is empty: at least one heartbeat before an election.
    public init(
        electionTimeoutMilliseconds: Int, heartbeatMilliseconds: Int, tickMilliseconds: Int
    ) {
        let tick = max(1, tickMilliseconds)
        heartbeatTicks = max(1, heartbeatMilliseconds / tick)
        electionTicks = max(heartbeatTicks + 1, electionTimeoutMilliseconds / 2 / tick)
        electionJitterTicks = max(1, electionTimeoutMilliseconds * 35 / 100 / tick)
        leaseTicks = min(electionTicks - 1, electionTimeoutMilliseconds * 4 / 10 / tick)
    }
}

/// A generator with eight bytes of state (SplitMix64): enough for jitter, the same everywhere.
struct JitterGenerator: Sendable {
    private var state: UInt64

    /// Peers of one group share the seed; mixing keeps their sequences apart.
    init(seed: UInt64, id: PeerID) {
        state = Self.mix(seed ^ Self.mix(id.rawValue))
    }

    /// A number in `0..<bound`; `bound` is at least 1.
    mutating func next(below bound: Int32) -> Int32 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return Int32(((Self.mix(state) >> 32) * UInt64(bound)) >> 32)
    }

    /// A place among the peers of a group, another one in each term, and the same wherever it is asked for.
    static func order(of id: PeerID, in term: Term) -> UInt64 {
        mix(id.rawValue ^ mix(term.rawValue &+ 0x9e37_79b9_7f4a_7c15))
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
