// What is asked about a region's members, and what is told.

public import UkehiBase

/// What is asked of a region about its members; its leader answers.
public enum MemberRequest: Hashable, Sendable {
    /// Who they are, and how a change goes that is under way.
    case report
    /// What would be done so that these nodes' peers, and no others, are members and vote. Changes nothing.
    case plan([NodeID])
    /// To do that. Returns at once; the report tells how it goes. Asked again it goes on, with another
    /// leader, too: whoever leads keeps the aim in memory alone.
    case set([NodeID])
    /// To hand leadership to this node's peer.
    case transfer(NodeID)
}

/// One member.
public struct MemberInfo: Hashable, Sendable {
    /// What it is; of a joint configuration more than one thing.
    public struct Roles: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Votes; in a joint configuration: in the incoming half.
        public static let voter = Roles(rawValue: 1)
        /// Votes in the outgoing half.
        public static let outgoingVoter = Roles(rawValue: 2)
        public static let learner = Roles(rawValue: 4)
        /// Becomes a learner when the joint configuration is left.
        public static let nextLearner = Roles(rawValue: 8)
    }
    public var peer: PeerID
    public var node: NodeID
    public var roles: Roles
    /// It holds the leader's log up to here.
    public var match: LogIndex
    /// It has answered lately.
    public var isActive: Bool

    public init(peer: PeerID, node: NodeID, roles: Roles, match: LogIndex, isActive: Bool) {
        self.peer = peer
        self.node = node
        self.roles = roles
        self.match = match
        self.isActive = isActive
    }
}

/// A region's members, as its leader knows them.
public struct MemberReport: Hashable, Sendable {
    /// How an aim stands.
    public enum Progress: UInt8, Hashable, Sendable {
        /// There is none.
        case none = 0
        /// A step is under way or will be in a moment.
        case working = 1
        /// For what `reason` says, and goes on by itself.
        case waiting = 2
        case done = 3
        /// For what `reason` says; nothing more is done.
        case refused = 4
    }
    public var region: RegionID
    public var epoch: RegionEpoch
    public var leader: NodeID
    public var lastIndex: LogIndex
    /// Ascending by peer.
    public var members: [MemberInfo]
    /// The nodes that are to have a member; empty: there is no aim.
    public var wanted: [NodeID]
    public var progress: Progress
    /// Why it waits or is refused.
    public var reason: String
    /// What was done, or, of a plan, would be; oldest first.
    public var steps: [String]

    public init(
        region: RegionID, epoch: RegionEpoch, leader: NodeID, lastIndex: LogIndex,
        members: [MemberInfo], wanted: [NodeID] = [], progress: Progress = .none,
        reason: String = "", steps: [String] = []
    ) {
        self.region = region
        self.epoch = epoch
        self.leader = leader
        self.lastIndex = lastIndex
        self.members = members
        self.wanted = wanted
        self.progress = progress
        self.reason = reason
        self.steps = steps
    }
}
