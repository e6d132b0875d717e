// Which change of members a leader proposes, and why not (RULES 9-13, 16, 17). Pure.
//
// The core and every replica check again what could break consensus. What is refused here besides would be
// legal and yet leave the region unable to go on: without a quorum that answers, led by nobody, or with
// voters that hold nothing.

package import UkehiBase
package import UkehiRaft
import UkehiState

/// What happens to one peer.
package enum MemberStep: Hashable, Sendable {
    /// It is sent the log and does not vote yet.
    case addLearner(PeerID, on: NodeID)
    /// A learner that has caught up votes from now on.
    case promote(PeerID)
    /// A voter becomes a learner.
    case demote(PeerID)
    case removeLearner(PeerID)

    package var peer: PeerID {
        switch self {
        case .addLearner(let peer, _), .promote(let peer), .demote(let peer),
            .removeLearner(let peer):
            peer
        }
    }
}

/// One change of a region's members: one entry.
package struct MemberChange: Hashable, Sendable {
    /// Several: through a joint configuration. None: the joint configuration is left.
    package var steps: [MemberStep]

    package init(_ steps: [MemberStep]) { self.steps = steps }

    package static let leaveJoint = MemberChange([])

    /// The change as the region's log holds it.
    package func entry(of descriptor: RegionDescriptor) -> ConfigurationChange {
        if steps.isEmpty { return .leaveJoint }
        var places: [MemberContext.Place] = []
        let made = steps.map { step -> ConfigurationChange.Step in
            switch step {
            case .addLearner(let peer, let node):
                places.append(MemberContext.Place(peer: peer, node: node))
                return ConfigurationChange.Step(.addLearner, peer)
            case .promote(let peer): return ConfigurationChange.Step(.addVoter, peer)
            case .demote(let peer): return ConfigurationChange.Step(.addLearner, peer)
            case .removeLearner(let peer): return ConfigurationChange.Step(.remove, peer)
            }
        }
        return ConfigurationChange(
            made, transition: steps.count > 1 ? .jointImplicit : .automatic,
            context: MemberContext(
                confVersion: descriptor.epoch.confVersion, places: places
            ).encoded())
    }
}

/// What a leader knows of its region's peers, for judging a change.
package struct MemberView: Sendable {
    /// One peer.
    package struct Peer: Hashable, Sendable {
        package var peer: PeerID
        /// It holds the leader's log up to here.
        package var match: LogIndex
        /// It has answered lately.
        package var isActive: Bool
        /// Its node says that it should lead nothing.
        package var isUnfit: Bool

        /// A core takes a new peer to be active until it is found silent: one that holds nothing was
        /// never heard, and there may be nobody (RULES 13).
        var hasAnswered: Bool {
            #if BugBank
                if PlantedBug.promotesUnheard.isPlanted { return isActive }
            #endif
            return isActive && match > .zero
        }

        package init(peer: PeerID, match: LogIndex, isActive: Bool, isUnfit: Bool = false) {
            self.isUnfit = isUnfit
            self.peer = peer
            self.match = match
            self.isActive = isActive
        }
    }
    package var descriptor: RegionDescriptor
    package var leader: PeerID
    package var lastIndex: LogIndex
    /// An earlier change is not applied yet.
    package var isPending: Bool
    package var peers: [Peer]

    package init(
        descriptor: RegionDescriptor, leader: PeerID, lastIndex: LogIndex, isPending: Bool,
        peers: [Peer]
    ) {
        self.descriptor = descriptor
        self.leader = leader
        self.lastIndex = lastIndex
        self.isPending = isPending
        self.peers = peers
    }

    func peer(_ id: PeerID) -> Peer? { peers.first { $0.peer == id } }

    /// Whether a peer could be counted on for the next commit.
    func isReady(_ id: PeerID) -> Bool {
        if id == leader { return true }
        guard let peer = peer(id), peer.hasAnswered else { return false }
        return peer.match.rawValue + Limits.maxPromotionLag >= lastIndex.rawValue
    }

    /// Whether a peer's node should lead nothing.
    func isUnfit(_ id: PeerID) -> Bool { peer(id)?.isUnfit ?? false }

    /// Entries that a peer lacks.
    package func lag(of id: PeerID) -> UInt64 {
        let match = peer(id)?.match ?? .zero
        return lastIndex > match ? lastIndex - match : 0
    }
}

/// Why a change of members is not proposed, and what would be safe instead.
package enum ChangeRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    case notLeader
    case unknownRegion
    /// An earlier change is under way.
    case pending
    case joint
    case notJoint
    case transferring
    case malformed(String)
    case unknownPeer(PeerID)
    case alreadyMember(PeerID)
    case peerIDReused(PeerID)
    case nodeHasPeer(NodeID)
    case leaderLeaves(PeerID)
    case voterNotDemoted(PeerID)
    case notCaughtUp(PeerID, behind: UInt64)
    case silent(PeerID)
    case noVoters
    case losesQuorum(ready: Int, of: Int)
    case overloaded

    package var description: String {
        switch self {
        case .notLeader: "This node does not lead the region. Ask the leader's node."
        case .unknownRegion: "This node has no peer of the region. Ask a node that has one."
        case .pending:
            "Another membership change of the region is under way. Ask again when it is applied."
        case .joint:
            "The region is in a joint configuration. It leaves it by itself; ask again then."
        case .notJoint: "There is no joint configuration to leave."
        case .transferring: "Leadership is being handed over. Ask the next leader."
        case .malformed(let reason): "The change makes no sense: \(reason)."
        case .unknownPeer(let peer): "\(peer) is no member of the region. List its members first."
        case .alreadyMember(let peer): "\(peer) is a member already, in another part."
        case .peerIDReused(let peer):
            "\(peer) was a peer's id before. Ids are never used again: take a new one."
        case .nodeHasPeer(let node):
            "\(node) has a peer of the region already. Remove that one first."
        case .leaderLeaves(let peer):
            "\(peer) leads the region. Transfer leadership to another voter first."
        case .voterNotDemoted(let peer):
            "\(peer) votes. Make it a learner first, then remove it."
        case .notCaughtUp(let peer, let behind):
            "\(peer) lacks \(behind) entries. It can vote once it has caught up; wait."
        case .silent(let peer):
            "\(peer) does not answer. It can vote once it does; see to its node."
        case .noVoters: "Nobody would vote. Keep at least one voter that has caught up."
        case .losesQuorum(let ready, let of):
            "Only \(ready) of the \(of) voters that there would be can answer now: the region would "
                + "stand still. Bring those that are down back, or replace them one at a time while "
                + "most are up."
        case .overloaded: "The region's log is full of what is not committed. Ask again later."
        }
    }
}

extension MemberView {
    /// Throws unless the change may be proposed now.
    package func check(_ change: MemberChange) throws(ChangeRefusal) {
        guard !isPending else { throw .pending }
        guard !change.steps.isEmpty else {
            guard descriptor.isJoint else { throw .notJoint }
            return
        }
        guard !descriptor.isJoint else { throw .joint }
        guard Set(change.steps.map(\.peer)).count == change.steps.count else {
            throw .malformed("it names a peer twice")
        }
        for step in change.steps { try check(step) }
        let learnersOnly = change.steps.allSatisfy { step in
            switch step {
            case .addLearner, .removeLearner: true
            case .promote, .demote: false
            }
        }
        // From outside, a joint configuration that moves no vote cannot be told from none (RULES 12).
        guard !learnersOnly || change.steps.count == 1 else {
            throw .malformed("learners come and go one at a time")
        }
        let next: RegionDescriptor
        do throws(VoidChange) {
            next = try descriptor.applying(change.entry(of: descriptor))
        } catch {
            if case .impossible(.noVoters) = error { throw .noVoters }
            throw .malformed("\(error)")
        }
        if !learnersOnly { try checkQuorums(of: next) }
    }

    private func check(_ step: MemberStep) throws(ChangeRefusal) {
        let member = descriptor.member(step.peer)
        if case .addLearner(let peer, let node) = step {
            guard member == nil else { throw .alreadyMember(peer) }
            guard peer.isValid, peer > descriptor.peers.last?.peer ?? .none else {
                throw .peerIDReused(peer)
            }
            guard descriptor.peer(on: node) == nil else { throw .nodeHasPeer(node) }
            return
        }
        guard let member else { throw .unknownPeer(step.peer) }
        switch step {
        case .promote:
            guard member.roles == .learner else { throw .alreadyMember(member.peer) }
            guard peer(member.peer)?.hasAnswered ?? false else { throw .silent(member.peer) }
            guard isReady(member.peer) else {
                throw .notCaughtUp(member.peer, behind: lag(of: member.peer))
            }
        case .demote:
            guard member.roles == .voter else { throw .alreadyMember(member.peer) }
            guard member.peer != leader else { throw .leaderLeaves(member.peer) }
        case .removeLearner:
            guard member.peer != leader else { throw .leaderLeaves(member.peer) }
            guard member.roles == .learner else { throw .voterNotDemoted(member.peer) }
        case .addLearner: break
        }
    }

    /// The configuration must be able to commit at once, in both its halves (RULES 11).
    private func checkQuorums(of next: RegionDescriptor) throws(ChangeRefusal) {
        for half in [PeerRoles.voter, .outgoingVoter] {
            let voters = next.peers.filter { $0.roles.contains(half) }
            guard !voters.isEmpty else { continue }
            let ready = voters.count { isReady($0.peer) }
            guard ready > voters.count / 2 else {
                throw .losesQuorum(ready: ready, of: voters.count)
            }
        }
    }
}
