// One region on this node: its Raft core, the requests that wait on it, and what it has applied.
//
// A region belongs to one lane and is touched by no other thread. It only keeps state and answers
// small questions; the lane drives it (Lane.swift).

import DequeModule
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

/// A write that waits to be proposed or to be applied.
struct PendingWrite {
    var record: Bytes
    var sink: ReplySink
    var tag: UInt64
    var deadline: MonotonicTime
    /// Its client was told already that the outcome is not known.
    var isAnswered = false
}

/// A read that waits for its read index, then for that index to be applied.
package struct PendingRead {
    var operation: ClientOperation
    var key: Bytes
    var sink: ReplySink
    var tag: UInt64
    var deadline: MonotonicTime
    /// What it counts for among those that wait.
    var bytes: Int
    /// Whether it is to see what has expired by the leader's clock.
    var mindsClock = true
}

/// An entry this peer proposed and whose commands' clients wait for.
struct Proposal {
    var index: LogIndex
    var term: Term
    /// The earliest of those who still wait.
    var deadline: MonotonicTime
    /// In the order of the entry's commands.
    var waiters: [PendingWrite]
}

/// Reads that share one read index.
struct ReadRound {
    /// Unique per leader and term: a counter of this peer's (RULES 52).
    var context: UInt64
    var reads: [PendingRead]
}

/// A membership change that was handed on to be applied.
struct HandedChange {
    var index: LogIndex
    var outcome: Outcome

    enum Outcome {
        /// It is void, here as on every replica.
        case void
        case members(ConfigurationChange, next: RegionDescriptor)
        case split(HandedSplit)
    }
}

/// A split that was handed on to be applied.
struct HandedSplit {
    var next: RegionDescriptor
    /// The new regions, ascending.
    var children: [RegionDescriptor]
    /// Of those that have a peer here.
    var births: [RegionBirth]
    /// Who leads each of the new regions first, in their order.
    var leaders: [PeerID]
}

/// Who asked for a region to be divided.
struct SplitWaiter {
    /// Which of the region's askers it is.
    var ask: UInt64 = 0
    /// In ticks of the lane.
    var askedTick: UInt64 = 0
    /// Where the command stands in the log; zero until it was proposed.
    var index = LogIndex.zero
    var term = Term.zero
    /// Nil: its leader by itself.
    var client: (sink: ReplySink, tag: UInt64)?
}

/// Committed entries that are not handed on yet.
struct HeldApply {
    var message: Message
    /// What they wait for is durable.
    var isReleased: Bool
    /// New regions come out of this one with them, whose births are on their way to disk.
    var births: Births = .unknown

    enum Births {
        case unknown
        case underWay([RegionID])
        case durable
    }
}

final class Region {
    /// How it came to be here.
    let birth: RegionBirth
    /// As of `applied`.
    var descriptor: RegionDescriptor
    /// As of `handedToApply`: what the changes between will make of it.
    var handedDescriptor: RegionDescriptor
    var handedChanges = Deque<HandedChange>()
    /// Committed entries that wait for a commit index to be durable; see `holdChange`.
    var heldApplies = Deque<HeldApply>()
    let peer: PeerID
    var raft: RawNode
    let log: RegionLog
    /// Where each other peer lives: index into the lane's outboxes. Members first; behind them peers
    /// of a newer configuration, whom this one has to answer before it knows them (RULES 18).
    var outboxSlots: [(peer: PeerID, slot: Int)]
    /// It is a member no more and goes: nothing is done for it.
    var isClosed = false
    /// Regions that came out of this one and whose keys a crash would bring back only by this one's log.
    var unflushedChildren: Set<RegionID> = []
    /// It is to go as this, once they are.
    var leavesAs: RegionDescriptor?
    /// It came out of a division that is handed on and not applied yet; see Lane+OpeningAhead.swift.
    var awaitsKeys = false
    /// While it does: nothing here will bring them, and its leader is asked for them; see Lane+LostKeys.swift.
    var keysAreLost = false
    /// The lane's ticks at which it began to await them, and at which it was last told that nobody gives them.
    var awaitsKeysSince: UInt64 = 0
    var lostKeysToldAt: UInt64 = 0
    /// Whether its keys survive a crash by themselves, not by its parent's log.
    var hasOwnBase: Bool
    /// An entry that divides the region, proposed by this leader and not applied yet.
    var proposedSplit: LogIndex = .zero
    /// The last division that may be undone by a crash, and then done again by replay; zero: none.
    var unflushedSplit: LogIndex = .zero
    /// Who waits for it.
    var splitWaiter: SplitWaiter?
    /// How long it takes, for the record.
    var ownSplit: OwnSplit?
    /// It came out of another region, this peer was to lead it first, and it has not served yet.
    var isFirstLed = false
    /// Why it is being divided, while somebody waits for that or it is under way.
    var splitReason = SplitReason.request
    /// Tells those who wait apart: what was begun for one does not come to another.
    var splitAsks: UInt64 = 0
    /// What is asked of it, while this peer leads. Counted with each operation, on the lane's thread alone:
    /// exclusivity needs no check at run time.
    @exclusivity(unchecked)
    var load: RegionLoad
    /// The regions that the last split made, for those who ask for their keys here.
    var parts: [RegionInfo] = []
    /// The lane's tick at which a leader was last heard.
    var heardTick: UInt64 = 0

    var id: RegionID { descriptor.region }

    /// Whether its leader has proposed to divide it, which is not applied yet.
    var isBeingDivided: Bool { isLeader && proposedSplit > applied }

    /// What its members are to be, while this peer leads.
    var aim: MemberAim?

    /// Nodes that are none any more, and that this peer does not count, since a recovery has it lead without
    /// them; empty but in a recovery.
    var absent: Set<NodeID> = []

    /// Whether the region has news and stands in the lane's list for this pass.
    var isDirty = false
    /// Whether its peer may stand otherwise than when an observer was last shown it.
    var isTouched = true
    /// Log batches of this region handed to the log and not durable yet.
    var appendsInFlight = 0
    /// Term and vote as last handed to the log; a change of the commit alone is not written, it
    /// travels with the next entries.
    var persistedTerm: Term
    var persistedVote: PeerID

    /// Invariant: applied <= handedToApply <= committed.
    var applied: LogIndex
    var handedToApply: LogIndex

    var pendingWrites: [PendingWrite] = []
    var pendingWriteBytes = 0
    /// They were held back.
    var heldWrites = false
    var proposals = Deque<Proposal>()

    var pendingReads: [PendingRead] = []
    var roundsInFlight = Deque<ReadRound>()
    var roundsToApply = Deque<(index: LogIndex, reads: [PendingRead])>()
    var nextReadContext: UInt64 = 1
    /// Reads that wait for logged time to reach this leader's clock, ascending by entry; see Lane+DueReads.swift.
    var dueReads: [DueReads] = []

    var leader: PeerID = .none
    var isLeader = false

    /// The group agreed that the log up to here may go; it goes once the state is flushed past it.
    var compactionTarget: LogIndex = .zero
    /// Its entries hold the log's oldest segment back: it is to be compacted, however little that is.
    var pinsLog = false
    /// A compaction entry that this leader proposed and has not applied yet.
    var proposedCompaction: LogIndex = .zero
    /// What a snapshot of it would hold, as last measured: exact, or so much at least.
    var measuredBytes: UInt64?
    /// The tick of that, and whether it is being measured.
    var measuredAt: UInt64 = 0
    var isBeingMeasured = false
    /// Log bytes applied since the state was last written as a snapshot to be kept.
    var appliedBytes: UInt64 = 0
    /// Seconds for which its log could be compacted if its state were kept.
    var waitsToBeKept = 0
    /// State and log are being replaced by a snapshot.
    var replacement: Replacement?
    /// Entries that the log holds and cannot read, ascending by when they were found.
    var holes: [Hole] = []
    /// Ticks during which this peer campaigns ahead of the others: in a new cluster, so that leaders
    /// spread over the nodes; in a group of one, since nobody else can.
    var firstCampaigns: Int

    init(
        birth: RegionBirth, descriptor: RegionDescriptor, peer: PeerID, raft: consuming RawNode,
        log: RegionLog,
        hardState: HardState, outboxSlots: [(peer: PeerID, slot: Int)], applied: LogIndex,
        firstCampaigns: Int
    ) {
        self.birth = birth
        self.descriptor = descriptor
        handedDescriptor = descriptor
        self.peer = peer
        self.raft = raft
        self.log = log
        self.outboxSlots = outboxSlots
        self.applied = applied
        self.handedToApply = applied
        self.persistedTerm = hardState.term
        self.persistedVote = hardState.vote
        self.firstCampaigns = firstCampaigns
        load = RegionLoad(region: descriptor.region, threshold: 0)
        // One that its parent has forsaken has nothing, and needs nothing of its parent's.
        hasOwnBase =
            birth.parting == nil || birth.introduction != nil
            || log.lastIndex < birth.logBegins
    }

    /// The outbox of another peer's node; nil for a peer that is not known.
    func slot(of peer: PeerID) -> Int? {
        for entry in outboxSlots where entry.peer == peer { return entry.slot }
        return nil
    }

    /// The leader's node as far as this peer knows.
    var leaderNode: NodeID? {
        guard leader != .none else { return nil }
        return descriptor.node(of: leader) ?? birth.introduction?.node(of: leader)
    }

    /// The newest configuration that this peer knows to be in force: a new one has been told of a newer
    /// one than it has applied, namely one that it is in.
    var knownConfVersion: UInt64 {
        max(descriptor.epoch.confVersion, birth.naming.epoch.confVersion)
    }

    /// What its messages say of the region (RULES 18).
    var statedEpoch: RegionEpoch {
        RegionEpoch(confVersion: knownConfVersion, version: descriptor.epoch.version)
    }

    /// Whether this peer is known to be no member any more. One that still replays what was before it
    /// became one is not.
    var isRemoved: Bool {
        descriptor.epoch.confVersion >= birth.naming.epoch.confVersion
            && descriptor.member(peer) == nil
    }

    /// Whether it came out of another region, here by that one's log, and its members are those of then.
    var isAsItBegan: Bool {
        birth.parting != nil && birth.introduction == nil && descriptor.epoch == birth.origin.epoch
    }

    /// What clients are told of it: the newest that is known here.
    var info: RegionInfo {
        birth.newest(descriptor).info(leader: leaderNode)
    }

    /// How a client that asked the wrong node is sent on.
    var notLeader: RequestError {
        .rejected(.notLeader(info))
    }

    /// What every peer holds and this one has applied.
    func commonIndex() -> LogIndex {
        min(applied, raft.lowestMatch ?? applied)
    }

    /// What can be compacted now (RULES 40): what every peer holds and this one has applied; and past that
    /// what a lagging peer is no longer waited for, since a snapshot brings it on sooner.
    func compactableIndex(_ options: NodeOptions) -> LogIndex {
        let common = commonIndex()
        guard common < applied, options.compactsPastLagging else { return common }
        var kept = UInt64(options.maxLogEntries)
        if let index = log.index(before: SnapshotCost.keptLogBytes(measuredBytes, options)) {
            kept = min(kept, applied > index ? applied - index : 0)
        }
        guard applied - common > kept else { return common }
        return LogIndex(applied.rawValue - kept)
    }

    /// Whether a peer that has so much lacks so little that compaction would not soon overtake it: half of
    /// what is kept for any.
    func isNear(_ match: LogIndex, _ options: NodeOptions) -> Bool {
        guard match < applied else { return true }
        let bytes = SnapshotCost.keptLogBytes(measuredBytes, options) / 2
        return applied - match <= UInt64(options.maxLogEntries) / 2
            && match >= log.index(before: bytes) ?? .zero
    }

    /// Whether a peer that has so much lacks more than the log is ever kept for, be it on its way or not.
    func isBehindAll(_ match: LogIndex, _ options: NodeOptions) -> Bool {
        guard let index = log.index(before: SnapshotCost.mostLogBytes(options)) else {
            return false
        }
        return match < index
    }
}
