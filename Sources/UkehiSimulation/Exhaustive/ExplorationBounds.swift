// How small the small world is.

/// What may happen in an exhausted world, and how often. Everything that may happen does, in every
/// order; see ``Explorer``.
public struct ExplorationBounds: Hashable, Sendable {
    /// Elections that are started, by any peer at any time; so there are no more terms than that.
    /// Elections and commands together are at most 15.
    public var elections = 2
    /// Commands proposed, each to any leader at any time.
    public var commands = 1
    /// Peers that lose power, at any time, and come back with what was durable.
    public var crashes = 1
    /// Messages that are lost or delivered twice, together; nil: without a bound. Then the network
    /// forgets nothing that was ever sent and delivers it any number of times, also never, which makes
    /// for fewer states: whether a message was delivered already is no part of them.
    public var disturbances: Int?
    /// Rounds of heartbeats, sent by any leader at any time.
    public var heartbeats = 0
    /// Candidates ask first whether they could win (thesis §9.6).
    public var preVote = false
    /// A write is done as soon as it is asked for. Without this it may take as long as it likes, and be
    /// lost in a crash with all that waits for it.
    public var instantDisk = false
    /// What a peer has asked its disk for is done all at once, as by a group commit. Without this writes
    /// are done one by one, so that a crash may keep any of the first.
    public var writesTogether = false
    /// An append carries one entry at most.
    public var singleEntryAppends = false
    /// Keep messages on their way that can never matter again: those of a term that their recipient has
    /// durably left, and votes for an election that is over. Needed only against a core that listens to
    /// such messages by mistake; without it the explorer tries each once, sees that nothing happens,
    /// and forgets it.
    public var keepsStaleMessages = false
    /// Give up after this many states.
    public var maxStates = Int(UInt32.max)

    public init() {}

    /// What is impossible about these bounds, if anything.
    public var fault: String? {
        if !(1...12).contains(elections) { return "elections must be 1 to 12" }
        if !(0...12).contains(commands) { return "commands must be 0 to 12" }
        if elections + commands > 15 {
            return "elections and commands together must be at most 15"
        }
        for count in [crashes, disturbances ?? 0, heartbeats] where !(0...15).contains(count) {
            return "crashes, disturbances and heartbeats must be 0 to 15"
        }
        if maxStates < 1 || maxStates > Int(UInt32.max) {
            return "the number of states must be 1 to \(UInt32.max)"
        }
        return nil
    }
}
