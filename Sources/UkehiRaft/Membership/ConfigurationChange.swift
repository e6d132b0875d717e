// A change of membership as proposed, logged and applied (etcd's ConfChange and ConfChangeV2).

public import UkehiBase

/// Steps from one configuration to another.
///
/// One step of one voter may be made directly (Raft §6, thesis §4.1); more need a joint
/// configuration, entered by this change and left by an empty one, which the leader proposes itself
/// where that was asked for.
public struct ConfigurationChange: Hashable, Sendable {
    /// How to get from the old configuration to the new one.
    public enum Transition: UInt8, Sendable, Hashable {
        /// Directly if there is a single step, else joint with automatic leave.
        case automatic = 0
        /// Joint, left automatically.
        case jointImplicit = 1
        /// Joint, left by an empty change that somebody proposes.
        case jointExplicit = 2
    }

    /// What happens to one peer.
    public struct Step: Hashable, Sendable {
        public enum Kind: UInt8, Sendable, Hashable {
            case addVoter = 0
            case remove = 1
            /// Nothing changes in Raft; the embedder may have changed an address.
            case update = 2
            case addLearner = 3
        }
        public var kind: Kind
        /// A step for ``PeerID/none`` is skipped.
        public var peer: PeerID
        public init(_ kind: Kind, _ peer: PeerID) {
            self.kind = kind
            self.peer = peer
        }
    }

    public var transition: Transition
    public var steps: [Step]
    /// For the embedder; opaque to Raft.
    public var context: Bytes

    public init(
        _ steps: [Step] = [], transition: Transition = .automatic, context: Bytes = Bytes()
    ) {
        self.transition = transition
        self.steps = steps
        self.context = context
    }

    /// The change that leaves a joint configuration.
    public static let leaveJoint = ConfigurationChange()

    var leavesJoint: Bool { transition == .automatic && steps.isEmpty }
    var entersJoint: Bool { transition != .automatic || steps.count > 1 }
    /// Only asked when ``entersJoint``.
    var leavesAutomatically: Bool { transition != .jointExplicit }
}

/// Why a configuration or a change of one is impossible. Nothing was changed.
public enum MembershipError: Error, Hashable, Sendable {
    /// The joint configuration must be left first.
    case alreadyJoint
    /// There is no joint configuration to leave, or a field that only joint ones have.
    case notJoint
    /// A group without voters can't enter a joint configuration.
    case emptyCannotBeJoint
    /// Only one voter may change outside a joint configuration.
    case needsJoint
    /// The change would leave no voters, or a configuration has none.
    case noVoters
    /// The peer is given two roles that exclude each other.
    case inconsistent(PeerID)
    /// No peer can have this id.
    case invalidPeer(PeerID)
}
