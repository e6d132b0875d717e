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
/// Invariant: `tracker` is empty unless this peer leads; a follower has no `office`.
struct RaftCore: ~Copyable {
    let id: PeerID
    var term: Term = .zero { didSet { if term != oldValue { hasNewTermOrVote = true } } }
    var vote: PeerID = .none { didSet { if vote != oldValue { hasNewTermOrVote = true } } }
    var leader: PeerID = .none
    var log: RaftLog

    var configuration = Configuration()
    var tracker = ProgressTracker()
    /// What only a candidate or leader has; made when first needed in a term's role.
    var heldOffice: Office?

    /// To other peers, at once.
    var messages: [Message] = []
    /// To other peers or to this one, once everything unstable now is durable (RULES 1).
    var messagesAfterAppend: [Message] = []
    var readStates: [ReadState] = []

    var uncommittedBytes: UInt64 = 0

    // Small fields side by side, so that they share what each would waste alone.
    var role = Role.follower
    /// As last handed out.
    var previousRole = Role.follower
    /// Term or vote are not what the last hard state handed out says.
    var hasNewTermOrVote = false
    /// Entries were appended that ``sendPendingAppends()`` is to send.
    var hasPendingAppends = false
    /// The log has entries that cannot be read: this peer votes by them, but neither leads nor campaigns.
    var isDamaged = false
    /// See ``RawNode/holdsCampaigns``.
    var holdsCampaigns = false
    /// See ``RawNode/sendsDurableOnly``.
    var sendsDurableOnly = false
    // Clocks, in ticks.
    var electionElapsed: Int32 = 0
    var heartbeatElapsed: Int32 = 0
    var randomizedElectionTimeout: Int32 = 0
    /// Where ``beginsAt`` is, in the room that is left here.
    var beginning: UInt32
    /// Ticks since this core was made.
    var now: UInt64 = 0
    /// While `now` is below, in the term in which it was set, the election clock stands still.
    var supportedUntil: UInt64 = 0
    /// No campaign until this is applied.
    let campaignBarrier: LogIndex
    var jitter: JitterGenerator

    let sharedSettings: SharedSettings
    var settings: CoreSettings { @inline(__always) get { sharedSettings.value } }

    /// A peer that goes on from what `storage` has, as a follower.
    static func start(
        _ settings: RaftConfiguration, storage: LogStorage, pool: RaftSettingsPool?
    ) throws(RaftError) -> RaftCore {
        try settings.validate()
        let coreSettings = CoreSettings(settings)
        var log = try RaftLog.open(storage)
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
            log.applied(to: settings.applied, bytes: 0, maxBytes: coreSettings.maxApplyingBytes)
        }
        let configuration: Configuration
        do {
            configuration = try Configuration(validating: state)
        } catch {
            throw .inconsistentStorage("its membership is impossible: \(error)")
        }
        return RaftCore(
            settings: settings,
            shared: pool?.shared(coreSettings) ?? SharedSettings(coreSettings), log: log,
            hardState: hardState, configuration: configuration)
    }

    private init(
        settings: RaftConfiguration, shared: SharedSettings, log: consuming RaftLog,
        hardState: HardState, configuration: Configuration
    ) {
        id = settings.id
        sharedSettings = shared
        jitter = JitterGenerator(seed: settings.seed, id: settings.id)
        campaignBarrier = settings.restartCampaignBarrier ? log.committed : .zero
        beginning = UInt32(clamping: settings.beginsAt.rawValue)
        self.log = log
        term = hardState.term
        vote = hardState.vote
        self.configuration = configuration
        becomeFollower(term: term, leader: .none)
    }

    /// The window of a follower that was sent nothing.
    var emptyWindow: Inflights {
        Inflights(maxCount: settings.maxInflightMessages, maxBytes: settings.maxInflightBytes)
    }

    var softState: SoftState { SoftState(leader: leader, role: role) }
    var hardState: HardState { HardState(term: term, vote: vote, commit: log.committed) }

    /// See ``RaftConfiguration/beginsAt``.
    var beginsAt: LogIndex { LogIndex(UInt64(beginning)) }

    /// Whether this peer may be elected: a voter, with a state and a log to lead from.
    var isPromotable: Bool {
        configuration.isVoter(id) && log.snapshot == nil && !isDamaged
            && log.lastIndex >= beginsAt
    }
}

/// What a candidate or leader holds beyond what every peer has. A follower has none, which keeps idle
/// groups small.
final class Office {
    var votes: [(peer: PeerID, granted: Bool)] = []
    /// Thesis §3.10; none unless a transfer is under way.
    var transferee: PeerID = .none
    /// A `timeoutNow` was sent in this term, and may arrive at any time from now on.
    var mayHaveAbdicated = false
    /// At or above the last membership change that may not be applied yet (RULES 9).
    var pendingChangeIndex: LogIndex = .zero
    var reads = ReadQueue()
    /// Reads asked before the first commit of the term (RULES 52).
    var earlyReads: [ReadQueue.Request] = []
}

extension RaftCore {
    /// For changing; a look goes through the accessors below, which make nothing.
    var office: Office {
        mutating get {
            if let heldOffice { return heldOffice }
            let office = Office()
            heldOffice = office
            return office
        }
    }
    var transferee: PeerID { heldOffice?.transferee ?? .none }
    var mayHaveAbdicated: Bool { heldOffice?.mayHaveAbdicated ?? false }
    var pendingChangeIndex: LogIndex { heldOffice?.pendingChangeIndex ?? .zero }
    /// The position of the newest read that waits for a quorum.
    var lastReadPosition: UInt64 { heldOffice?.reads.lastPosition ?? 0 }
    var heartbeatContext: Bytes { heldOffice?.reads.heartbeatContext ?? Bytes() }
}

/// What a vote request carries when its candidate was told to stand by the leader itself: it
/// overrides the lease that followers hold for that leader.
enum CampaignContext {
    static let transfer = Bytes("CampaignTransfer")

    static func isTransfer(_ context: Bytes) -> Bool {
        !context.isEmpty && context == transfer
    }
}
