// From the members that a region has to those that it is to have, one safe step at a time (RULES 11-13,
// 60). Pure: what the leader knows goes in, the next step comes out. Whoever drives it asks again when
// that step is done, so that it may begin anywhere: after another leader's half, or an operator's.
//
//   add a learner -> it catches up -> it votes, and in the same change one that is to go does not
//   -> leadership leaves those that are to go -> they become learners -> they are removed
//
// One peer moves at a time, and at no step fewer peers vote than before unless that is the aim.

package import UkehiBase
import UkehiRaft
import UkehiState

/// The next step to an aim.
package enum MemberMove: Hashable, Sendable {
    /// The region has these members and no others.
    case done
    /// To be proposed now.
    case propose(MemberChange)
    /// A learner is to be added on this node; it needs an id that no peer ever had.
    case addLearner(on: NodeID)
    /// Leadership goes to this voter; the aim goes on with it.
    case transfer(to: PeerID)
    /// Nothing can be done yet.
    case wait(ChangeRefusal)
    /// It cannot be done, now or later.
    case refused(ChangeRefusal)
}

package enum MemberEngine {
    /// What to do next so that exactly the peers on `wanted` nodes are members, and all of them vote.
    package static func next(_ view: MemberView, wanted: Set<NodeID>) -> MemberMove {
        guard !wanted.isEmpty else { return .refused(.noVoters) }
        if view.isPending { return .wait(.pending) }
        let members = view.descriptor.peers
        if view.descriptor.isJoint {
            // The leader leaves it by itself, where that was asked for.
            return view.descriptor.leavesJoint ? .wait(.joint) : check(.leaveJoint, view)
        }
        let coming = members.filter { wanted.contains($0.node) && $0.roles == .learner }
        let going = members.filter { !wanted.contains($0.node) }
        let leaving = going.filter { $0.roles == .voter && $0.peer != view.leader }
        if let learner = coming.first {
            return promote(learner, leaving, view)
        }
        if let node = wanted.subtracting(members.map(\.node)).min() {
            return .addLearner(on: node)
        }
        if let voter = leaving.first { return check(MemberChange([.demote(voter.peer)]), view) }
        if going.contains(where: { $0.peer == view.leader }) { return transfer(view, wanted) }
        if let learner = going.first {
            return check(MemberChange([.removeLearner(learner.peer)]), view)
        }
        return .done
    }

    /// A new peer gets its vote once it has caught up, and takes the place of one that is to go.
    private static func promote(
        _ learner: PeerDescriptor, _ leaving: [PeerDescriptor], _ view: MemberView
    ) -> MemberMove {
        let alone = MemberChange([.promote(learner.peer)])
        guard let voter = leaving.first else { return check(alone, view) }
        let both = check(MemberChange([.promote(learner.peer), .demote(voter.peer)]), view)
        if case .propose = both { return both }
        // What the two together must not, one of them may.
        return check(alone, view)
    }

    private static func transfer(_ view: MemberView, _ wanted: Set<NodeID>) -> MemberMove {
        let heirs = view.descriptor.peers.filter {
            wanted.contains($0.node) && $0.roles == .voter && $0.peer != view.leader
        }
        // One whose node should lead nothing refuses, and nothing can be proposed while it is asked.
        let fit = heirs.filter { view.isReady($0.peer) && !view.isUnfit($0.peer) }
        guard let heir = fit.min(by: before(view)) else {
            return heirs.first.map { .wait(.silent($0.peer)) } ?? .refused(.noVoters)
        }
        return .transfer(to: heir.peer)
    }

    /// Whoever lacks least first.
    private static func before(
        _ view: MemberView
    ) -> (PeerDescriptor, PeerDescriptor) -> Bool {
        { (view.lag(of: $0.peer), $0.peer) < (view.lag(of: $1.peer), $1.peer) }
    }

    /// The voter that leadership should go to when its holder's node stops; nil: there is none that could
    /// take it.
    package static func heir(_ view: MemberView) -> PeerID? {
        view.descriptor.peers.filter {
            $0.roles.contains(.voter) && $0.peer != view.leader && view.isReady($0.peer)
                && !view.isUnfit($0.peer)
        }.min(by: before(view))?.peer
    }

    private static func check(_ change: MemberChange, _ view: MemberView) -> MemberMove {
        do throws(ChangeRefusal) {
            try view.check(change)
            return .propose(change)
        } catch {
            return error.passes ? .wait(error) : .refused(error)
        }
    }

    // MARK: Plans

    /// The steps from here to there, in words, if every node does its part; and why they do not get
    /// there, if they do not.
    package static func plan(
        _ view: MemberView, wanted: Set<NodeID>
    ) -> (steps: [String], refusal: ChangeRefusal?) {
        var view = view
        var steps: [String] = []
        var newest = view.descriptor.peers.last?.peer.rawValue ?? 0
        // Each member takes at most four steps.
        for _ in 0..<4 * (view.descriptor.peers.count + wanted.count) + 4 {
            switch next(view, wanted: wanted) {
            case .done: return (steps, nil)
            case .refused(let refusal): return (steps, refusal)
            case .wait(let reason):
                guard goOn(&view, reason, &steps) else { return (steps, reason) }
            case .transfer(let peer):
                steps.append("hand leadership to \(words(peer, view))")
                view.leader = peer
            case .addLearner(let node):
                newest += 1
                let change = MemberChange([.addLearner(PeerID(newest), on: node)])
                steps.append("add a learner on \(node)")
                apply(change, &view)
                steps.append("wait until the peer on \(node) has caught up")
                view.peers.append(
                    MemberView.Peer(
                        peer: PeerID(newest), match: max(view.lastIndex, LogIndex(1)),
                        isActive: true))
            case .propose(let change):
                steps.append(words(change, view))
                apply(change, &view)
                if view.descriptor.isJoint {
                    steps.append("leave the joint configuration")
                    apply(.leaveJoint, &view)
                }
            }
        }
        return (steps, nil)
    }

    /// What passes by itself, unless it needs somebody who is down.
    private static func goOn(
        _ view: inout MemberView, _ reason: ChangeRefusal, _ steps: inout [String]
    ) -> Bool {
        switch reason {
        case .pending:
            steps.append("wait until the change under way is applied")
            view.isPending = false
        case .joint:
            steps.append("leave the joint configuration")
            apply(.leaveJoint, &view)
        case .notCaughtUp(let peer, _):
            guard let position = view.peers.firstIndex(where: { $0.peer == peer }) else {
                return false
            }
            steps.append("wait until \(words(peer, view)) has caught up")
            view.peers[position].match = view.lastIndex
        default: return false
        }
        return true
    }

    private static func apply(_ change: MemberChange, _ view: inout MemberView) {
        if let next = try? view.descriptor.applying(change.entry(of: view.descriptor)) {
            view.descriptor = next
        }
    }

    private static func words(_ peer: PeerID, _ view: MemberView) -> String {
        view.descriptor.node(of: peer).map { "\(peer) on \($0)" } ?? "\(peer)"
    }

    /// A change in words.
    package static func words(_ change: MemberChange, _ view: MemberView) -> String {
        if change.steps.isEmpty { return "leave the joint configuration" }
        return change.steps.map { step in
            switch step {
            case .addLearner(let peer, let node): "add \(peer) on \(node) as a learner"
            case .promote(let peer): "make \(words(peer, view)) a voter"
            case .demote(let peer): "make \(words(peer, view)) a learner"
            case .removeLearner(let peer): "remove \(words(peer, view))"
            }
        }.joined(separator: " and ")
    }
}

extension ChangeRefusal {
    /// Whether it may be otherwise later, without anybody changing the aim.
    var passes: Bool {
        switch self {
        case .pending, .joint, .transferring, .notCaughtUp, .silent, .losesQuorum, .overloaded: true
        default: false
        }
    }
}
