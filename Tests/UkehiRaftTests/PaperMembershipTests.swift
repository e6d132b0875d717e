// Raft §6 and thesis §4: changes of membership in a running group.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Raft paper, section 6: membership changes")
struct PaperMembershipTests {
    private func change(
        _ cluster: RaftCluster, at id: UInt64, _ steps: [ConfigurationChange.Step],
        _ transition: ConfigurationChange.Transition = .automatic
    ) throws {
        try cluster[id].raft.proposeConfChange(
            ConfigurationChange(steps, transition: transition))
    }

    private func voters(_ peer: TestPeer) -> [UInt64] {
        peer.configuration.voters.ids.map(\.rawValue)
    }

    @Test("a member is added, gets a snapshot, and counts")
    func addMember() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], extra: 1, base: 5)
        try cluster.elect(1)
        try change(cluster, at: 1, [.init(.addVoter, PeerID(4))])
        try cluster.settle([1, 2, 3])
        #expect(voters(cluster[1]) == [1, 2, 3, 4])
        cluster[1].disk.flushed = cluster[1].state
        cluster.tick(1)
        try cluster.settle()
        #expect(voters(cluster[4]) == [1, 2, 3, 4])
        #expect(cluster[4].applied == cluster[1].applied)
        // Three of four are needed now.
        let index = try cluster.propose("x", at: 1)
        try cluster.settle([1, 2])
        #expect(cluster[1].committed < index)
        cluster.tick(1)
        try cluster.settle([1, 2, 4])
        #expect(cluster[1].committed == index)
    }

    /// Found by simulation (seed 2700773 of the scenario `nodes`): a quiet group stayed joint for good.
    @Test("a quiet group leaves its joint configuration after a transfer that came to nothing")
    func leavesAfterTransfer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try change(
            cluster, at: 1, [.init(.addLearner, PeerID(3)), .init(.addVoter, PeerID(2))],
            .jointImplicit)
        // The third one is away, and is to lead.
        cluster[1].raft.transferLeadership(to: PeerID(3))
        try cluster.settle([1, 2])
        #expect(cluster[1].configuration.autoLeave && cluster[1].raft.hasPendingConfChange == false)
        cluster.tick(1, 10)
        try cluster.settle([1, 2])
        #expect(!cluster[1].configuration.isJoint && voters(cluster[1]) == [1, 2])
    }

    /// Found by simulation (seed 2900218 of the scenario `splits`): nobody was left to answer, and all later
    /// reads waited behind those.
    @Test("reads that wait for a peer are answered when it is removed and the others are enough")
    func readsOfFewer() throws {
        let cluster = try RaftCluster(voters: [1, 2])
        try cluster.elect(1)
        try cluster.settle()
        try cluster[1].raft.readIndex(context: "r")
        cluster.collect(cluster[1])
        cluster.drop { $0.kind == .heartbeat }
        #expect(cluster[1].readStates.isEmpty)
        try change(cluster, at: 1, [.init(.remove, PeerID(2))])
        try cluster.settle()
        #expect(voters(cluster[1]) == [1])
        #expect(cluster[1].readStates.map(\.context) == ["r"])
    }

    @Test(
        "only one change may be on its way; the next is refused or becomes an empty entry (RULES 9)",
        arguments: [false, true])
    func oneChangeAtATime(refuses: Bool) throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], extra: 2, base: 5) {
            $0.refuseInvalidConfChanges = refuses
        }
        try cluster.elect(1)
        try change(cluster, at: 1, [.init(.addVoter, PeerID(4))])
        let pending = cluster[1].lastIndex
        if refuses {
            #expect(throws: RaftError.proposalDropped(.changePending(at: pending))) {
                try change(cluster, at: 1, [.init(.addVoter, PeerID(5))])
            }
        } else {
            try change(cluster, at: 1, [.init(.addVoter, PeerID(5))])
        }
        try cluster.settle([1, 2, 3])
        #expect(voters(cluster[1]) == [1, 2, 3, 4])
    }

    @Test("a joint change needs both majorities, and is left by itself when that was asked for")
    func jointConsensus() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], extra: 2, base: 5)
        try cluster.elect(1)
        try change(
            cluster, at: 1,
            [
                .init(.addVoter, PeerID(4)), .init(.addVoter, PeerID(5)),
                .init(.remove, PeerID(2)), .init(.remove, PeerID(3)),
            ])
        try cluster.settle([1, 2, 3])
        #expect(cluster[1].configuration.isJoint)
        // The entry that leaves needs a majority of 1, 4 and 5 too.
        #expect(cluster[1].committed < cluster[1].lastIndex)
        cluster[1].disk.flushed = cluster[1].state
        cluster.tick(1)
        try cluster.settle()
        #expect(!cluster[1].configuration.isJoint)
        #expect(voters(cluster[1]) == [1, 4, 5] && voters(cluster[4]) == [1, 4, 5])
    }

    @Test(
        "in a joint configuration neither half commits without the other",
        arguments: [
            [1, 2, 3], [1, 4, 5],
        ] as [[UInt64]])
    func bothHalves(half: [UInt64]) throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], extra: 2, base: 5)
        try cluster.elect(1)
        try change(
            cluster, at: 1,
            [
                .init(.addVoter, PeerID(4)), .init(.addVoter, PeerID(5)),
                .init(.remove, PeerID(2)), .init(.remove, PeerID(3)),
            ], .jointExplicit)
        try cluster.settle()
        cluster[1].disk.flushed = cluster[1].state
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[4].applied == cluster[1].applied)
        let index = try cluster.propose("x", at: 1)
        try cluster.settle(half)
        for id in half { #expect(cluster[id].lastIndex == index) }
        #expect(cluster[1].committed < index)
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[1].committed == index)
        // An election needs both halves just as well.
        cluster[2].raft.campaign()
        try cluster.settle([2, 1, 3])
        #expect(!cluster[2].isLeader)
    }

    @Test("an explicit joint change waits for somebody to leave it")
    func explicitJoint() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try change(cluster, at: 1, [.init(.addLearner, PeerID(3))], .jointExplicit)
        try cluster.settle()
        #expect(cluster[1].configuration.isJoint)
        #expect(cluster[1].configuration.learnersNext.ids == [PeerID(3)])
        for _ in 0..<30 {
            cluster.tick(1)
            try cluster.settle()
        }
        #expect(cluster[1].configuration.isJoint)
        try cluster[1].raft.proposeConfChange(.leaveJoint)
        try cluster.settle()
        #expect(cluster[3].configuration.learners.ids == [PeerID(3)])
        #expect(!cluster[3].configuration.isJoint)
    }

    @Test(
        "a leader that removes itself commits that without its own vote, then steps down (RULES 15)"
    )
    func leaderRemovesItself() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.stepDownOnRemoval = true }
        try cluster.elect(1)
        try change(cluster, at: 1, [.init(.remove, PeerID(1))])
        try cluster.settle()
        #expect(cluster[1].role == .follower)
        #expect(voters(cluster[2]) == [2, 3])
        try cluster.elect(2, among: [2, 3])
        cluster.tick(1, 100)
        #expect(cluster[1].role == .follower, "who is no member does not campaign")
    }

    @Test("a learner receives everything and decides nothing")
    func learner() throws {
        let cluster = try RaftCluster(voters: [1, 2], learners: [3])
        try cluster.elect(1)
        let index = try cluster.propose("x", at: 1)
        try cluster.settle([1, 3])
        #expect(cluster[1].committed < index)
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[3].commands == ["x"])
        cluster.tick(3, 100)
        #expect(cluster[3].role == .follower)
        cluster[1].raft.transferLeadership(to: PeerID(3))
        try cluster.settle()
        #expect(cluster[1].isLeader)
    }

    @Test("a learner that does not know of its promotion votes all the same")
    func learnerVotes() throws {
        let cluster = try RaftCluster(voters: [1, 2], learners: [3])
        try cluster[3].raft.step(
            Message(kind: .requestVote, to: PeerID(3), from: PeerID(2), term: Term(1)))
        try cluster.work(cluster[3])
        #expect(cluster.network.first?.reject == false)
    }

    @Test("who has not applied every committed change does not campaign (RULES 10)")
    func unappliedChange() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try change(cluster, at: 1, [.init(.addLearner, PeerID(4))])
        cluster.collect(cluster[1])
        for id in [1, 2] as [UInt64] {
            while !cluster[id].appends.isEmpty { try cluster.write(cluster[id]) }
            for message in cluster.take({ _ in true }) { cluster.deliver(message) }
        }
        while !cluster[2].appends.isEmpty { try cluster.write(cluster[2]) }
        for message in cluster.take({ $0.to == PeerID(1) }) { cluster.deliver(message) }
        for message in cluster.take({ $0.to == PeerID(2) }) { cluster.deliver(message) }
        while !cluster[2].appends.isEmpty { try cluster.write(cluster[2]) }
        #expect(cluster[2].committed == cluster[1].lastIndex)
        #expect(cluster[2].applied < cluster[2].committed)
        cluster[2].raft.campaign()
        #expect(cluster[2].role == .follower)
        while !cluster[2].applies.isEmpty { try cluster.apply(cluster[2]) }
        cluster[2].raft.campaign()
        #expect(cluster[2].role == .candidate)
    }

    @Test("a change that can't be applied is refused with its reason, and changes nothing")
    func impossibleChange() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        let before = cluster[1].configuration
        #expect(throws: RaftError.membership(.notJoint)) {
            try cluster[1].raft.applyConfChange(.leaveJoint)
        }
        #expect(throws: RaftError.membership(.noVoters)) {
            try cluster[1].raft.applyConfChange(
                ConfigurationChange([1, 2, 3].map { .init(.remove, PeerID($0)) }))
        }
        #expect(cluster[1].configuration == before)
    }
}
