// The state of one peer of a Raft group, and how it starts. What it does is in the extensions:
//
//   +Step         terms and votes: what every role does with a message
//   +Validation   what no correct peer sends
//   +Election     becoming candidate, leader, follower; ticks
//   +Leader       answers of followers, transfer           +Replication  what is sent to whom
//   +Proposals    what is appended                         +Follower     appends, heartbeats, snapshots
//   +Reads        linearizable reads                       +Membership   applied changes
//
// Everything is synchronous: an input changes the state and queues messages, RawNode hands them out.

import UkehiBase

/// One peer's core.
///
/// Invariant: `tracker` is empty unless this peer leads; `votes` unless it campaigns.
struct RaftCore: ~Copyable {
    let id: PeerID
    var term: Term = .zero
    var vote: PeerID = .none
    var role = Role.follower
    var leader: PeerID = .none
    var log: RaftLog

    var configuration = Configuration()
    var tracker: ProgressTracker
    var votes: [(peer: PeerID, granted: Bool)] = []

    /// To other peers, at once.
    var messages: [Message] = []
    /// To other peers or to this one, once everything unstable now is durable (RULES 1).
    var messagesAfterAppend: [Message] = []
    var readStates: [ReadState] = []
    /// Entries were appended that ``sendPendingAppends()`` is to send.
    var hasPendingAppends = false

    /// Thesis §3.10; none unless a transfer is under way.
    var transferee: PeerID = .none
    /// A `timeoutNow` was sent in this term, and may arrive at any time from now on.
    var mayHaveAbdicated = false
    /// At or above the last membership change that may not be applied yet (RULES 9).
    var pendingChangeIndex: LogIndex = .zero
    var uncommittedBytes: UInt64 = 0

    var reads = ReadQueue()
    /// Reads asked before the first commit of the term (RULES 52).
    var earlyReads: [ReadQueue.Request] = []

    // Clocks, in ticks.
    var electionElapsed: Int32 = 0
    var heartbeatElapsed: Int32 = 0
    var randomizedElectionTimeout: Int32 = 0
    /// Ticks since this core was made.
    var now: UInt64 = 0
    /// While `now` is below, and the term is `supportTerm`, the election clock stands still.
    var supportedUntil: UInt64 = 0
    var supportTerm: Term = .zero
    /// No campaign until this is applied.
    let campaignBarrier: LogIndex
    var jitter: JitterGenerator

    let settings: CoreSettings

    /// A peer that goes on from what `storage` has, as a follower.
    static func start(
        _ settings: RaftConfiguration, storage: LogStorage
    ) throws(RaftError) -> RaftCore {
        try settings.validate()
        var log = try RaftLog.open(
            storage,
            maxApplyingBytes: settings.maxCommittedBytesPerReady ?? max(1, settings.maxMessageBytes)
        )
        let (hardState, state) = storage.initialState()
        if !hardState.isEmpty {
            guard hardState.commit <= log.lastIndex else {
                throw .inconsistentStorage(
                    "its commit index \(hardState.commit) is past its log's end, \(log.lastIndex)")
            }
            guard hardState.term <= RaftLimits.maxTerm else {
                throw .inconsistentStorage("its term \(hardState.term) is impossible")
            }
            // What is compacted was committed, even if the commit index was not written since.
            log.commit(to: hardState.commit)
        }
        if settings.applied > .zero {
            guard settings.applied >= log.applied, settings.applied <= log.lastIndex else {
                throw .inconsistentStorage(
                    "applied \(settings.applied) is outside \(log.applied)...\(log.lastIndex)")
            }
            // So was what is applied.
            log.commit(to: settings.applied)
            log.applied(to: settings.applied, bytes: 0)
        }
        let configuration: Configuration
        do {
            configuration = try Configuration(validating: state)
        } catch {
            throw .inconsistentStorage("its membership is impossible: \(error)")
        }
        return RaftCore(
            settings: settings, log: log, hardState: hardState, configuration: configuration)
    }

    private init(
        settings: RaftConfiguration, log: consuming RaftLog, hardState: HardState,
        configuration: Configuration
    ) {
        id = settings.id
        self.settings = CoreSettings(settings)
        jitter = JitterGenerator(seed: settings.seed, id: settings.id)
        tracker = ProgressTracker(
            maxInflight: UInt32(clamping: settings.maxInflightMessages),
            maxInflightBytes: settings.maxInflightBytes)
        campaignBarrier = settings.restartCampaignBarrier ? log.committed : .zero
        self.log = log
        term = hardState.term
        vote = hardState.vote
        self.configuration = configuration
        becomeFollower(term: term, leader: .none)
    }

    var softState: SoftState { SoftState(leader: leader, role: role) }
    var hardState: HardState { HardState(term: term, vote: vote, commit: log.committed) }

    /// Whether this peer may be elected: a voter, with a state to lead from.
    var isPromotable: Bool { configuration.isVoter(id) && log.snapshot == nil }
}

/// The settings that are read after the start, in as few bytes as they need.
struct CoreSettings: Sendable {
    let maxMessageBytes: UInt64
    let maxUncommittedBytes: UInt64
    let electionTicks: Int32
    let jitterTicks: Int32
    let heartbeatTicks: Int32
    let flags: Flags

    struct Flags: OptionSet, Sendable {
        let rawValue: UInt16
        static let asyncStorageWrites = Flags(rawValue: 1 << 0)
        static let checkQuorum = Flags(rawValue: 1 << 1)
        static let preVote = Flags(rawValue: 1 << 2)
        static let leaseReads = Flags(rawValue: 1 << 3)
        static let disableForwarding = Flags(rawValue: 1 << 4)
        static let stepDownOnRemoval = Flags(rawValue: 1 << 5)
        static let skipChangeValidation = Flags(rawValue: 1 << 6)
        static let refuseInvalidChanges = Flags(rawValue: 1 << 7)
        static let lazyCommitBroadcast = Flags(rawValue: 1 << 8)
        static let lazyCommitPersistence = Flags(rawValue: 1 << 9)
        static let coalesceAcknowledgements = Flags(rawValue: 1 << 10)
        static let leadOnlyWithDurableVote = Flags(rawValue: 1 << 11)
    }

    init(_ configuration: RaftConfiguration) {
        maxMessageBytes = configuration.maxMessageBytes
        maxUncommittedBytes =
            configuration.maxUncommittedBytes == 0 ? .max : configuration.maxUncommittedBytes
        electionTicks = Int32(configuration.electionTicks)
        jitterTicks = Int32(configuration.electionJitterTicks ?? configuration.electionTicks)
        heartbeatTicks = Int32(configuration.heartbeatTicks)
        var flags: Flags = []
        func set(_ flag: Flags, _ condition: Bool) { if condition { flags.insert(flag) } }
        set(.asyncStorageWrites, configuration.asyncStorageWrites)
        set(.leadOnlyWithDurableVote, configuration.leadOnlyWithDurableVote)
        set(.checkQuorum, configuration.checkQuorum)
        set(.preVote, configuration.preVote)
        set(.leaseReads, configuration.readMode == .lease)
        set(.disableForwarding, configuration.disableProposalForwarding)
        set(.stepDownOnRemoval, configuration.stepDownOnRemoval)
        set(.skipChangeValidation, configuration.disableConfChangeValidation)
        set(.refuseInvalidChanges, configuration.refuseInvalidConfChanges)
        set(.lazyCommitBroadcast, configuration.lazyCommitBroadcast)
        set(.lazyCommitPersistence, configuration.lazyCommitPersistence)
        set(.coalesceAcknowledgements, configuration.coalesceAcknowledgements)
        self.flags = flags
    }
}

/// What a vote request carries when its candidate was told to stand by the leader itself: it
/// overrides the lease that followers hold for that leader.
enum CampaignContext {
    static let transfer = Bytes("CampaignTransfer")

    static func isTransfer(_ context: Bytes) -> Bool {
        !context.isEmpty && context == transfer
    }
}
