// How an input to the core can be refused.

public import UkehiBase

/// Why the core did not do what was asked. Unless the case says otherwise nothing was changed.
public enum RaftError: Error, Hashable, Sendable {
    /// The proposal was not appended. Safe to propose again, here or elsewhere.
    case proposalDropped(ProposalRefusal)
    /// No leader is known to ask for a read index; ask again later.
    case noLeader
    /// A kind of message that only the layer above or the storage may give, from elsewhere.
    case localMessage(MessageKind)
    /// An answer from a peer that is not in the group.
    case unknownPeer(PeerID)
    /// A message that no correct peer sends. Drop it, and count its sender's mistakes.
    case malformed(MessageFault)
    /// A bound on what waits inside the core was reached; ask again later.
    case overloaded
    /// The configuration of the core is impossible.
    case invalidConfiguration(String)
    /// What the storage says of its initial state is impossible.
    case inconsistentStorage(String)
    /// The membership change can't be applied to the membership as it is. Every peer that applies
    /// the same entry is told the same, so that skipping it keeps them equal.
    case membership(MembershipError)
}

/// Why a proposal was not appended.
public enum ProposalRefusal: Hashable, Sendable {
    /// Another peer leads, or none is known to.
    case notLeader(hint: PeerID?)
    /// Leadership is being handed over.
    case transferring(to: PeerID)
    /// This leader was removed from the group.
    case removed
    /// Too many bytes wait to be committed (``RaftConfiguration/maxUncommittedBytes``).
    case tooManyUncommittedBytes
    /// An earlier membership change may not be applied yet.
    case changePending(at: LogIndex)
    /// The joint configuration must be left first.
    case changeWhileJoint
    /// There is no joint configuration to leave.
    case nothingToLeave
    /// The change has too many steps or none where one is needed.
    case invalidChange
}

/// What is wrong with a message.
public enum MessageFault: UInt8, Hashable, Sendable {
    case wrongRecipient, noSender
    /// Zero where a term must be, or one that no group ever reaches.
    case termOutOfRange
    case indexOutOfRange
    /// Entries that don't follow each other, or whose terms decrease or exceed the message's.
    case entriesNotContiguous
    case noEntries
    case undecodableChange
    case noSnapshot
    case impossibleMembership
    /// The leader says we have committed what we do not hold: our log lost its end.
    case commitPastLog
    /// A follower says it holds what we never sent.
    case acknowledgedPastLog
    case unknownReadContext
    /// An answer of the storage to something never asked of it.
    case unknownStorageWork
}
