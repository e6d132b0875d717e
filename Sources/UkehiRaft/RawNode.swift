// One peer of a Raft group, for the layer that has a network, a disk and a clock.
//
//   step, tick, propose … ──▶ RawNode ──▶ takeReady: messages, entries to persist and to apply
//        ▲                                    │
//        └── responses of the storage ────────┘ (asynchronous), or advance() (synchronous)
//
// The node calls nothing, waits for nothing and reads no clock: the same inputs give the same
// outputs, on any machine. It is not copyable: two copies of a peer could vote twice.

public import UkehiBase

/// One peer of a Raft group. Used by one thread at a time.
///
/// Semantics of etcd-io/raft 3.7, message for message, and a few inputs of its own, off by default.
public struct RawNode: ~Copyable {
    var core: RaftCore
    // What was last handed out.
    var previousCommit: LogIndex
    var previousLeader: PeerID
    /// Synchronous mode: what ``advance()`` steps.
    var stepsOnAdvance: [Message] = []

    /// A peer that goes on from what `storage` has.
    ///
    /// - Parameter pool: Where nodes with equal settings find each other's; nil: a copy of its own.
    /// - Throws: ``RaftError/invalidConfiguration(_:)`` or ``RaftError/inconsistentStorage(_:)``.
    public init(
        configuration: RaftConfiguration, storage: LogStorage, pool: RaftSettingsPool? = nil
    ) throws(RaftError) {
        let core = try RaftCore.start(configuration, storage: storage, pool: pool)
        self.init(core)
    }

    private init(_ core: consuming RaftCore) {
        previousCommit = core.log.committed
        previousLeader = core.leader
        self.core = core
    }

    /// See ``fork(storage:)``.
    init(copyOf other: borrowing RawNode, storage: LogStorage) {
        core = RaftCore(copyOf: other.core, storage: storage)
        previousCommit = other.previousCommit
        previousLeader = other.previousLeader
        stepsOnAdvance = other.stepsOnAdvance
    }

    // MARK: Time

    /// One tick of the clock that the settings count in.
    public mutating func tick() { core.tick() }

    /// While true this peer's patience with its leader ends without a campaign of its own: its storage does
    /// not get done what it was asked for. It votes, and can be asked to campaign.
    public var holdsCampaigns: Bool {
        get { core.holdsCampaigns }
        set { core.holdsCampaigns = newValue }
    }

    /// Ticks since this node was made.
    public var ticks: UInt64 { core.now }

    /// Promises, for the rest of the current term, not to help elect another leader before ``ticks``
    /// reaches `tick`: no campaign, no pre-vote, no vote. A tick that has passed takes the promise
    /// back; the election timeout then counts as over, up to its jitter.
    ///
    /// The layer above persists promises before it makes them, and outwaits them after a restart. A
    /// transfer that the leader asks for overrides them: see ``mayHaveAbdicated``.
    public mutating func leaderSupported(until tick: UInt64) { core.setSupport(until: tick) }

    /// Whether such a promise holds.
    public var isSupportingLeader: Bool { core.isSupporting }

    /// Whether this leader has told another peer, in this term, to take over. It may do so at any time
    /// from then on, so that no lease counts any more.
    public var mayHaveAbdicated: Bool { core.role == .leader && core.mayHaveAbdicated }

    // MARK: Damage

    /// Says whether this peer's log has entries that cannot be read. While it has, the peer votes and
    /// acknowledges by their indexes and terms, as before, but neither leads nor campaigns: a leader gives
    /// way at once, a candidate gives up.
    public mutating func setDamaged(_ isDamaged: Bool) { core.set(damaged: isDamaged) }

    /// Whether ``setDamaged(_:)`` was last told so.
    public var isDamaged: Bool { core.isDamaged }

    // MARK: Inputs

    /// Makes this peer lead at once, without asking for votes. Only a peer that has just come to be may, in a
    /// group all of whose members begin in one term with their votes for it: nothing of that term was said or
    /// written by it before, in this life or an earlier one.
    public mutating func leadFirstTerm() { core.leadFirstTerm() }

    /// From now on peers with empty logs are sent snapshots; see ``RaftConfiguration/beginsAt``.
    public mutating func setBeginning(_ index: LogIndex) {
        core.beginning = UInt32(clamping: index.rawValue)
    }

    /// Starts an election; nothing happens on a leader, a learner, or while membership changes wait to
    /// be applied.
    public mutating func campaign() { core.campaign() }

    /// Proposes one command.
    ///
    /// - Returns: Where it was appended; it is committed when an entry with this term and index is. Both
    ///   zero when it was sent on to the leader.
    /// - Throws: ``RaftError/proposalDropped(_:)``.
    @discardableResult
    public mutating func propose(
        _ data: Bytes
    ) throws(RaftError) -> (term: Term, index: LogIndex) {
        try propose(kind: .normal, data: data)
    }

    /// Proposes several commands, one entry each, all or none; only on a leader.
    ///
    /// - Returns: The first entry's place; the others follow.
    @discardableResult
    public mutating func propose(
        batch: [Bytes]
    ) throws(RaftError) -> (term: Term, index: LogIndex) {
        guard !batch.isEmpty else { throw .malformed(.noEntries) }
        let first = try core.propose(batch: batch)
        return (core.term, first)
    }

    /// Proposes a membership change.
    ///
    /// A change that looks wrong now becomes an empty entry, as in etcd, unless
    /// ``RaftConfiguration/refuseInvalidConfChanges`` is set.
    /// - Parameter legacy: Write it as an entry of kind `confChange`: one step, never joint.
    @discardableResult
    public mutating func proposeConfChange(
        _ change: ConfigurationChange, legacy: Bool = false
    ) throws(RaftError) -> (term: Term, index: LogIndex) {
        guard change.steps.count <= ConfigurationChange.maxSteps, !legacy || change.isSingleStep
        else { throw .proposalDropped(.invalidChange) }
        return try propose(
            kind: legacy ? .confChange : .confChangeV2, data: change.encoded())
    }

    private mutating func propose(
        kind: EntryKind, data: Bytes
    ) throws(RaftError) -> (term: Term, index: LogIndex) {
        if core.role == .leader {
            let index = try core.propose(kind: kind, data: data)
            return (core.term, index)
        }
        try core.step(
            Message(
                kind: .propose, from: core.id,
                entries: [Entry(term: .zero, index: .zero, kind: kind, data: data)]))
        return (.zero, .zero)
    }

    /// Takes effect of a committed membership change; call it while applying its entry, unless the layer
    /// above decides to reject the change.
    ///
    /// - Throws: ``RaftError/membership(_:)``; the entry is then to be skipped, as on every peer.
    @discardableResult
    public mutating func applyConfChange(
        _ change: ConfigurationChange
    ) throws(RaftError) -> ConfigurationState {
        try core.apply(change)
    }

    /// Goes over to a membership that no entry has made: to that of survivors, which an operator has a peer
    /// lead that lost its quorum (RULES 74). The caller sees to it that only one peer of the group does, that
    /// its log is the greatest of them, and that it does so again after each restart.
    ///
    /// - Throws: ``RaftError/membership(_:)``; nothing was changed.
    public mutating func forceConfiguration(_ state: ConfigurationState) throws(RaftError) {
        let next: Configuration
        do {
            next = try Configuration(validating: state)
        } catch {
            throw .membership(error)
        }
        core.switchTo(next)
    }

    /// While this peer leads it sends only entries that are durable here.
    ///
    /// Otherwise it sends them while it writes them, and a power cut may leave others with more than it has:
    /// then they elect one of them. Where nobody else can be elected it has to stay the one whose log is the
    /// greatest (``forceConfiguration(_:)``).
    public var sendsDurableOnly: Bool {
        get { core.sendsDurableOnly }
        set { core.sendsDurableOnly = newValue }
    }

    /// Takes a message from another peer or a response of the storage.
    ///
    /// Whoever carries messages between nodes refuses those that only this node's own storage may give:
    /// a local kind (``MessageKind/isLocal``), or one whose sender is this peer or a storage target.
    /// - Throws: Why it was refused; nothing was changed. A response of the storage that is refused is a
    ///   mistake of the layer above.
    public mutating func step(_ message: Message) throws(RaftError) {
        try core.validate(message)
        try core.step(message)
    }

    /// Asks for an index that, once applied, makes reads linearizable. The answer is a ``ReadState`` with
    /// the same context, or none if leadership is lost.
    ///
    /// - Throws: ``RaftError/noLeader`` or ``RaftError/overloaded``.
    public mutating func readIndex(context: Bytes) throws(RaftError) {
        if core.role == .leader {
            try core.readIndex(context: context, from: .none)
        } else {
            try core.step(Message(kind: .readIndex, context: context))
        }
    }

    /// Hands leadership to `peer`, if it leads or knows who does. Proposals are refused until it is done or
    /// an election timeout has passed.
    public mutating func transferLeadership(to peer: PeerID) {
        try? core.step(Message(kind: .transferLeader, from: peer))
    }

    /// Makes a follower forget its leader, so that it votes for another one at once.
    public mutating func forgetLeader() {
        try? core.step(Message(kind: .forgetLeader))
    }

    /// Reports that what was last sent to `peer` may be lost.
    public mutating func reportUnreachable(_ peer: PeerID) {
        try? core.step(Message(kind: .unreachable, from: peer))
    }

    /// Reports what became of the snapshot sent to `peer`.
    public mutating func reportSnapshot(_ peer: PeerID, ok: Bool) {
        try? core.step(Message(kind: .snapshotStatus, from: peer, reject: !ok))
    }

    /// Goes on after ``LogStorageError/temporarilyUnavailable``.
    public mutating func storageFetched() { core.storageFetched() }

    /// Sends the newest commit index to every follower that was not told it; see
    /// ``RaftConfiguration/lazyCommitBroadcast``.
    public mutating func flushCommit() { core.flushCommit() }

    /// Gives back memory kept for speed; for a group that comes to rest.
    public mutating func releaseBuffers() {
        core.log.releaseBuffers()
        if core.messages.isEmpty { core.messages = [] }
        if core.messagesAfterAppend.isEmpty { core.messagesAfterAppend = [] }
        if core.readStates.isEmpty { core.readStates = [] }
        if stepsOnAdvance.isEmpty { stepsOnAdvance = [] }
    }
}
