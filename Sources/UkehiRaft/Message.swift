// What peers of one Raft group say to each other, and what a core says to its own storage.
//
// One struct for all kinds, as in etcd: which fields mean something is stated at each kind.

public import UkehiBase

/// The kinds of message; the name in parentheses is etcd's.
public enum MessageKind: UInt8, Sendable, Hashable {
    case hup = 0  // local: start an election (MsgHup)
    case beat = 1  // local: send heartbeats (MsgBeat)
    case propose = 2  // (MsgProp)
    case appendEntries = 3  // (MsgApp)
    case appendEntriesResponse = 4  // (MsgAppResp)
    case requestVote = 5  // (MsgVote)
    case requestVoteResponse = 6  // (MsgVoteResp)
    case installSnapshot = 7  // (MsgSnap)
    case heartbeat = 8  // (MsgHeartbeat)
    case heartbeatResponse = 9  // (MsgHeartbeatResp)
    case unreachable = 10  // local (MsgUnreachable)
    case snapshotStatus = 11  // local (MsgSnapStatus)
    case checkQuorum = 12  // local (MsgCheckQuorum)
    case transferLeader = 13  // (MsgTransferLeader)
    case timeoutNow = 14  // (MsgTimeoutNow)
    case readIndex = 15  // (MsgReadIndex)
    case readIndexResponse = 16  // (MsgReadIndexResp)
    case requestPreVote = 17  // (MsgPreVote)
    case requestPreVoteResponse = 18  // (MsgPreVoteResp)
    case storageAppend = 19  // to the local log (MsgStorageAppend)
    case storageAppendResponse = 20  // from the local log (MsgStorageAppendResp)
    case storageApply = 21  // to the local state machine (MsgStorageApply)
    case storageApplyResponse = 22  // from the local state machine (MsgStorageApplyResp)
    case forgetLeader = 23  // local (MsgForgetLeader)
    /// A peer whose log holds entries `index...commit` and cannot read them asks for them; `logTerm` is
    /// the last one's. Between the layers above: a core refuses both.
    case requestEntries = 24
    /// Some of those entries, the first at `index + 1`.
    case requestEntriesResponse = 25
    /// A peer asks for a part of the snapshot that it was offered. Between the layers above, as the next.
    case snapshotRequest = 30
    /// A part of a snapshot; with `reject`: there is none any more.
    case snapshotChunk = 31
    // Of the layers above, too:
    /// A leader to a node that shall have a peer of the region: what it is to begin with, in `context`.
    case introducePeer = 32
    /// To a peer that is a member no more; the region as its sender has it, in `context`.
    case peerIsGone = 33
    /// A peer that has heard nothing for long asks whether it is still a member.
    case askMembership = 34
    /// A node asks for `index` ids that nobody has; `commit` tells its requests apart.
    case requestIDs = 35
    /// The first of the ids asked for, in `index`; `reject`: there are none here.
    case requestIDsResponse = 36
    /// A directory wants to be a node; who it is, in `context`.
    case registerNode = 40
    /// A node asks for a registry newer than generation `commit`, version `index`.
    case requestRegistry = 41
    /// The registry, in `context`.
    case registry = 42
    /// How much the sender has to do: operations a second in `index`, leaderships in `commit`. From whoever leads
    /// the system region its `term`, and in `logTerm` the last write that changed the map of regions there.
    case nodeLoad = 43
    /// Report number `index` of regions that the sender leads, in `context`, as of generation `commit`.
    case reportRegions = 44
    /// Report number `index` will be in the map, unless the leader of that `term` is one no more.
    case reportRegionsResponse = 45
    /// A node asks for what changed in the map of regions after write `index`; `commit` is its generation.
    case requestRegions = 46
    /// The changes up to write `index`, in `context`.
    case regions = 47
}

extension MessageKind {
    /// Never sent from node to node: from the layer above, the core itself or its storage. A
    /// transport refuses to carry one.
    public var isLocal: Bool {
        switch self {
        case .hup, .beat, .unreachable, .snapshotStatus, .checkQuorum, .storageAppend,
            .storageAppendResponse, .storageApply, .storageApplyResponse, .forgetLeader:
            true
        default: false
        }
    }

    /// Said by the layer above a core to the layer above another; a core refuses it.
    public var isAboveCores: Bool {
        switch self {
        case .requestEntries, .requestEntriesResponse, .snapshotRequest, .snapshotChunk,
            .introducePeer, .peerIsGone, .askMembership:
            true
        default: isBetweenNodes
        }
    }

    /// Said by a node to a node, without peers.
    public var isBetweenNodes: Bool {
        switch self {
        case .requestIDs, .requestIDsResponse, .registerNode, .requestRegistry, .registry,
            .nodeLoad, .reportRegions, .reportRegionsResponse, .requestRegions, .regions:
            true
        default: false
        }
    }

    /// Answers something this peer asked, so means nothing from a peer it does not know.
    var isResponse: Bool {
        switch self {
        case .appendEntriesResponse, .requestVoteResponse, .heartbeatResponse, .unreachable,
            .readIndexResponse, .requestPreVoteResponse, .storageAppendResponse,
            .storageApplyResponse:
            true
        default: false
        }
    }
}

/// One message. Fields not named by its kind are at their defaults.
///
/// Small on purpose (112 bytes, four references): millions a second are made and moved. The rare
/// and large part, a snapshot, is behind one of those references.
public struct Message: Hashable, Sendable {
    public var kind: MessageKind
    public var reject: Bool
    public var to: PeerID
    public var from: PeerID
    /// The sender's term; zero on local messages.
    public var term: Term
    /// Term of the entry at `index` (appendEntries, requestVote, rejections).
    public var logTerm: Term
    public var index: LogIndex
    public var commit: LogIndex
    /// storageAppend: the vote to persist with `term` and `commit`.
    public var vote: PeerID
    /// appendEntriesResponse with `reject`: where the follower suggests to probe next.
    public var rejectHint: LogIndex
    public var entries: [Entry]
    @usableFromInline var snapshotBox: SnapshotBox?
    /// Opaque to Raft: readIndex contexts, the campaign type of a vote.
    public var context: Bytes
    /// storageAppend, storageApply: what to deliver, in order, when done: to other peers through
    /// the network, to `to == own id` back into `step`.
    public var responses: [Message]

    /// installSnapshot, storageAppend and its response.
    @inlinable public var snapshot: Snapshot? {
        get { snapshotBox?.value }
        set { snapshotBox = newValue.map { SnapshotBox($0) } }
    }

    @inlinable
    public init(
        kind: MessageKind, to: PeerID = .none, from: PeerID = .none, term: Term = .zero,
        logTerm: Term = .zero, index: LogIndex = .zero, commit: LogIndex = .zero,
        vote: PeerID = .none, reject: Bool = false, rejectHint: LogIndex = .zero,
        entries: [Entry] = [], snapshot: Snapshot? = nil, context: Bytes = Bytes(),
        responses: [Message] = []
    ) {
        self.kind = kind
        self.to = to
        self.from = from
        self.term = term
        self.logTerm = logTerm
        self.index = index
        self.commit = commit
        self.vote = vote
        self.reject = reject
        self.rejectHint = rejectHint
        self.entries = entries
        self.snapshotBox = snapshot.map { SnapshotBox($0) }
        self.context = context
        self.responses = responses
    }
}

/// A snapshot behind a reference.
@usableFromInline
final class SnapshotBox: Hashable, Sendable {
    @usableFromInline let value: Snapshot
    @usableFromInline init(_ value: Snapshot) { self.value = value }
    @usableFromInline static func == (a: SnapshotBox, b: SnapshotBox) -> Bool {
        a === b || a.value == b.value
    }
    @usableFromInline func hash(into hasher: inout Hasher) { hasher.combine(value) }
}

/// The names that storage targets have in `to` and `from`; no peer is ever given them.
extension PeerID {
    /// The local log (etcd: LocalAppendThread).
    public static let localAppend = PeerID(.max)
    /// The local state machine (etcd: LocalApplyThread).
    public static let localApply = PeerID(.max - 1)

    /// Whether this names a storage target.
    public var isLocalTarget: Bool { self == .localAppend || self == .localApply }
    /// Whether a peer may have this id.
    public var isValid: Bool { self != .none && !isLocalTarget }
}

/// A state at an index, standing for the log up to it.
public struct Snapshot: Hashable, Sendable {
    public var index: LogIndex
    public var term: Term
    public var configuration: ConfigurationState
    public var data: Bytes

    public init(
        index: LogIndex, term: Term, configuration: ConfigurationState, data: Bytes = Bytes()
    ) {
        self.index = index
        self.term = term
        self.configuration = configuration
        self.data = data
    }
    public static let empty = Snapshot(index: .zero, term: .zero, configuration: .init())
    public var isEmpty: Bool { index == .zero }
}

/// A group's membership as stored and sent (etcd's ConfState); joint while `votersOutgoing` is not
/// empty. Each list sorted.
public struct ConfigurationState: Hashable, Sendable {
    public var voters: [PeerID]
    public var learners: [PeerID]
    public var votersOutgoing: [PeerID]
    public var learnersNext: [PeerID]
    public var autoLeave: Bool

    public init(
        voters: [PeerID] = [], learners: [PeerID] = [], votersOutgoing: [PeerID] = [],
        learnersNext: [PeerID] = [], autoLeave: Bool = false
    ) {
        self.voters = voters
        self.learners = learners
        self.votersOutgoing = votersOutgoing
        self.learnersNext = learnersNext
        self.autoLeave = autoLeave
    }
}
