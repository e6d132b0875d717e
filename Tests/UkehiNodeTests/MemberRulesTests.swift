// What a leader does not propose, and why.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("rules of membership changes")
struct MemberRulesTests {
    /// Peers 1, 2, 3 on nodes 1, 2, 3 vote; 4 on node 4 is a learner. Peer 1 leads, the log ends at 5000.
    private func view(_ change: (inout MemberView) -> Void = { _ in }) -> MemberView {
        var view = MemberView(
            descriptor: RegionDescriptor(
                region: RegionID(2), isSystem: false, range: .all,
                epoch: RegionEpoch(confVersion: 3, version: 1),
                peers: (1...4).map {
                    PeerDescriptor(
                        peer: PeerID($0), node: NodeID($0), roles: $0 == 4 ? .learner : .voter)
                }),
            leader: PeerID(1), lastIndex: LogIndex(5000), isPending: false,
            peers: (1...4).map {
                MemberView.Peer(peer: PeerID($0), match: LogIndex(5000), isActive: true)
            })
        change(&view)
        return view
    }

    private func refusal(
        _ steps: [MemberStep], _ change: (inout MemberView) -> Void = { _ in }
    ) -> ChangeRefusal? {
        do throws(ChangeRefusal) {
            try view(change).check(MemberChange(steps))
            return nil
        } catch {
            return error
        }
    }

    @Test("what is allowed")
    func allowed() {
        #expect(refusal([.addLearner(PeerID(5), on: NodeID(5))]) == nil)
        #expect(refusal([.promote(PeerID(4))]) == nil)
        #expect(refusal([.demote(PeerID(2))]) == nil)
        #expect(refusal([.removeLearner(PeerID(4))]) == nil)
        #expect(refusal([.promote(PeerID(4)), .demote(PeerID(3))]) == nil)
        #expect(refusal([.demote(PeerID(2)), .demote(PeerID(3))]) == nil)
    }

    @Test("one change at a time, and none but leaving while two configurations decide")
    func oneAtATime() {
        let add = [MemberStep.addLearner(PeerID(5), on: NodeID(5))]
        #expect(refusal(add) { $0.isPending = true } == .pending)
        #expect(refusal([]) == .notJoint)
        func joint(_ view: inout MemberView) {
            view.descriptor.peers[0].roles = [.voter, .outgoingVoter]
        }
        #expect(refusal(add, joint) == .joint)
        #expect(refusal([], joint) == nil)
    }

    @Test("who is named must be there, and who comes must be new")
    func identities() {
        #expect(refusal([.promote(PeerID(9))]) == .unknownPeer(PeerID(9)))
        #expect(refusal([.demote(PeerID(9))]) == .unknownPeer(PeerID(9)))
        #expect(refusal([.removeLearner(PeerID(9))]) == .unknownPeer(PeerID(9)))
        #expect(refusal([.promote(PeerID(2))]) == .alreadyMember(PeerID(2)))
        #expect(refusal([.demote(PeerID(4))]) == .alreadyMember(PeerID(4)))
        #expect(
            refusal([.addLearner(PeerID(2), on: NodeID(5))]) == .alreadyMember(PeerID(2)))
        #expect(refusal([.addLearner(PeerID(5), on: NodeID(2))]) == .nodeHasPeer(NodeID(2)))
        #expect(
            refusal([.addLearner(PeerID(3), on: NodeID(5))]) { $0.descriptor.peers.remove(at: 2) }
                == .peerIDReused(PeerID(3)))
        #expect(refusal([.addLearner(.none, on: NodeID(5))]) == .peerIDReused(.none))
        #expect(refusal([.addLearner(PeerID(.max), on: NodeID(5))]) == .peerIDReused(PeerID(.max)))
        #expect(
            refusal([.promote(PeerID(4)), .demote(PeerID(4))])
                == .malformed("it names a peer twice"))
        #expect(
            refusal([.removeLearner(PeerID(4)), .addLearner(PeerID(5), on: NodeID(5))])
                == .malformed("learners come and go one at a time"))
    }

    @Test("a leader does not take itself out, and no voter goes at once")
    func leaving() {
        #expect(refusal([.demote(PeerID(1))]) == .leaderLeaves(PeerID(1)))
        #expect(refusal([.removeLearner(PeerID(1))]) == .leaderLeaves(PeerID(1)))
        #expect(refusal([.removeLearner(PeerID(2))]) == .voterNotDemoted(PeerID(2)))
        #expect(
            refusal([.demote(PeerID(3))]) { view in
                view.descriptor.peers.removeAll { $0.peer != PeerID(3) }
            } == .noVoters)
    }

    @Test("a learner votes only once it has caught up and answers")
    func promotion() {
        #expect(
            refusal([.promote(PeerID(4))]) { $0.peers[3].match = LogIndex(3999) }
                == .notCaughtUp(PeerID(4), behind: 1001))
        #expect(refusal([.promote(PeerID(4))]) { $0.peers[3].match = LogIndex(4000) } == nil)
        // Who holds nothing of a short log lacks little, and may not even be there.
        #expect(
            refusal([.promote(PeerID(4))]) { view in
                view.lastIndex = LogIndex(10)
                view.peers[3].match = .zero
            } == .silent(PeerID(4)))
        #expect(
            refusal([.promote(PeerID(4))]) { $0.peers[3].isActive = false } == .silent(PeerID(4)))
    }

    @Test("what the change leaves has to be able to commit at once, in both halves")
    func quorums() {
        // Of 1 and 2, which are to stay, 2 is down: one of two is no majority.
        #expect(
            refusal([.demote(PeerID(3))]) { $0.peers[1].isActive = false }
                == .losesQuorum(ready: 1, of: 2))
        #expect(
            refusal([.demote(PeerID(3))]) { $0.peers[1].match = LogIndex(1) }
                == .losesQuorum(ready: 1, of: 2))
        // One that is down may go.
        #expect(refusal([.demote(PeerID(2))]) { $0.peers[1].isActive = false } == nil)
        // The outgoing half: of 1, 2, 3 only 1 is up.
        #expect(
            refusal([.promote(PeerID(4)), .demote(PeerID(3))]) { view in
                view.peers[1].isActive = false
                view.peers[2].isActive = false
            } == .losesQuorum(ready: 1, of: 3))
        // Replacing one that is down, by two that are up.
        #expect(
            refusal([.promote(PeerID(4)), .demote(PeerID(3))]) { $0.peers[2].isActive = false }
                == nil)
        // Nobody new counts learners.
        #expect(refusal([.removeLearner(PeerID(4))]) { $0.peers[1].isActive = false } == nil)
    }

    @Test("every refusal says what to do")
    func texts() {
        let refusals: [ChangeRefusal] = [
            .notLeader, .unknownRegion, .pending, .joint, .notJoint, .transferring,
            .malformed("x"), .unknownPeer(PeerID(1)), .alreadyMember(PeerID(1)),
            .peerIDReused(PeerID(1)), .nodeHasPeer(NodeID(1)), .leaderLeaves(PeerID(1)),
            .voterNotDemoted(PeerID(1)), .notCaughtUp(PeerID(1), behind: 7), .silent(PeerID(1)),
            .noVoters, .losesQuorum(ready: 1, of: 3), .overloaded,
        ]
        for refusal in refusals { #expect(refusal.description.hasSuffix(".")) }
    }

    @Test("contexts: golden bytes, and damaged ones are refused")
    func contexts() throws {
        let context = MemberContext(
            confVersion: 5, places: [.init(peer: PeerID(7), node: NodeID(8))])
        let bytes: [UInt8] =
            [1, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0] + [7, 0, 0, 0, 0, 0, 0, 0]
            + [8, 0, 0, 0, 0, 0, 0, 0]
        #expect(context.encoded() == Bytes(bytes))
        #expect(try MemberContext.decode(Bytes(bytes)) == context)
        for length in bytes.indices {
            #expect(throws: DecodeError.self) {
                try MemberContext.decode(Bytes(Array(bytes[..<length])))
            }
        }
        for position in 0..<8 {
            var wrong = bytes
            wrong[position] ^= 2
            #expect(throws: DecodeError.self) { try MemberContext.decode(Bytes(wrong)) }
        }
    }

    @Test("random changes: the region and the core agree on what comes of them, or both refuse")
    func twins() throws {
        let random = NodeRandom(seed: 5)
        func pick(_ bound: UInt64) -> UInt64 { random.next() % bound }
        for _ in 0..<300 {
            var descriptor = view().descriptor
            var newest: UInt64 = 4
            for _ in 0..<20 {
                let steps = (0..<pick(4)).map { _ -> ConfigurationChange.Step in
                    let kinds: [ConfigurationChange.Step.Kind] = [.addVoter, .remove, .addLearner]
                    return .init(kinds[Int(pick(3))], PeerID(1 + pick(newest + 2)))
                }
                let places = steps.filter { descriptor.member($0.peer) == nil }.map {
                    MemberContext.Place(peer: $0.peer, node: NodeID(1 + pick(12)))
                }
                let change =
                    steps.isEmpty
                    ? ConfigurationChange.leaveJoint
                    : ConfigurationChange(
                        steps, transition: pick(2) == 0 ? .automatic : .jointImplicit,
                        context: MemberContext(
                            confVersion: descriptor.epoch.confVersion, places: places
                        ).encoded())
                guard let next = try? descriptor.applying(change) else { continue }
                let core = try Configuration(validating: descriptor.configuration).applying(change)
                #expect(core.state == next.configuration)
                #expect(next.epoch.confVersion == descriptor.epoch.confVersion + 1)
                #expect(try RegionDescriptor.decode(next.encoded()) == next)
                #expect(Set(next.peers.map(\.node)).count == next.peers.count)
                descriptor = next
                newest = max(newest, next.peers.last?.peer.rawValue ?? 0)
            }
        }
    }
}
