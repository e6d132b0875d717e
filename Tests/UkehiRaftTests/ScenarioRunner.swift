// Runs scenario files against a cluster of cores (RaftCluster.swift). Nothing happens that no
// directive asks for: messages wait in the network until delivered, writes until written.
//
//   cluster, logs, timeout                            what there is at first
//   campaign, propose, change, read, transfer, …      inputs of one peer
//   tick, write, apply, work, flush, compact          time, storage, state machine
//   deliver, drop, hold, release, inject,             the network
//   stabilize, partition, heal
//   crash, restart                                    failures
//   state, log, disk, leader, members, progress, …    looking, in ScenarioRunner+Looks.swift
//
// An unknown directive, word or option, a peer that does not exist and a delivery of nothing are
// mistakes in the file. What a core refuses is a result.

import Testing
import UkehiBase

@testable import UkehiRaft

/// One file's run.
final class ScenarioRunner {
    private var started: RaftCluster?
    /// Peers that are crashed.
    var down: Set<UInt64> = []
    /// The side of a partition each peer is on.
    var sides: [UInt64: Int] = [:]
    /// Messages that come later.
    var held: [Message] = []
    var output: [String] = []
    /// What was last said of each peer.
    private var seen: [Sight] = []

    private struct Sight: Equatable {
        var role: Role
        var term: Term
        var leader: PeerID
        var committed: LogIndex
        var reads: Int

        init(_ peer: TestPeer) {
            role = peer.role
            term = peer.term
            leader = peer.leader
            committed = peer.committed
            reads = peer.readStates.count
        }
    }

    /// The output of a block: of each directive in turn, "ok" if there is nothing to say.
    func run(_ block: ScenarioBlock) throws -> [String] {
        output = []
        for directive in block.directives {
            var words = try ScenarioWords(directive.text, line: directive.line)
            if directive.name != "logs", let input = directive.input.first {
                throw ScenarioError(line: input.line, message: "\(directive.name) takes no input")
            }
            let before = seen.map(\.committed)
            try run(directive, &words)
            if started != nil { sayCommits(since: before) }
        }
        if output.isEmpty { output = ["ok"] }
        return output
    }

    private func run(_ directive: ScenarioDirective, _ words: inout ScenarioWords) throws {
        switch directive.name {
        case "cluster": try makeCluster(&words)
        case "logs": try setLogs(directive, words)
        case "campaign", "propose", "change", "read", "transfer", "forgetLeader", "unreachable",
            "snapshotStatus", "support", "timeout", "tick":
            try input(directive.name, &words)
        case "write", "apply", "work", "flush", "compact": try storage(directive.name, &words)
        case "deliver", "drop", "hold", "release", "inject", "stabilize", "partition", "heal":
            try network(directive.name, &words)
        case "crash", "restart": try failure(directive.name, &words)
        default:
            guard try look(directive.name, &words) else {
                throw words.failure("unknown directive '\(directive.name)'")
            }
        }
    }

    // MARK: The cluster

    func cluster(_ words: ScenarioWords) throws(ScenarioError) -> RaftCluster {
        guard let started else { throw words.failure("there is no cluster yet") }
        return started
    }

    /// A peer that exists and is up.
    func peer(_ id: UInt64, _ words: ScenarioWords) throws(ScenarioError) -> TestPeer {
        let cluster = try cluster(words)
        guard id >= 1, id <= UInt64(cluster.peers.count) else {
            throw words.failure("there is no peer \(id)")
        }
        guard !down.contains(id) else { throw words.failure("peer \(id) is down") }
        return cluster[id]
    }

    /// The peers named, or every one that is up.
    func peersNamed(_ words: inout ScenarioWords) throws -> [TestPeer] {
        let ids = try words.numbers()
        guard ids.isEmpty else { return try ids.map { try peer($0, words) } }
        return try cluster(words).peers.filter { !down.contains($0.id.rawValue) }
    }

    private func makeCluster(_ words: inout ScenarioWords) throws {
        guard started == nil else { throw words.failure("there is a cluster already") }
        guard let voters = try words.numberValues("voters") else {
            throw words.failure("cluster needs voters=(…)")
        }
        let learners = try words.numberValues("learners") ?? []
        let spares = try words.numberValues("spares") ?? []
        let all = voters + learners + spares
        guard !voters.isEmpty, all == (1...UInt64(max(1, all.count))).map({ $0 }) else {
            throw words.failure("voters, learners and spares are 1, 2, 3 … in this order")
        }
        let configure = try settings(&words)
        let leader = try words.numberValue("leader")
        let entries = try words.numberValue("entries")
        try words.finish()
        // A peer that joins later learns of the first members from a snapshot alone.
        let cluster = try RaftCluster(
            voters: voters, learners: learners, extra: spares.count, base: spares.isEmpty ? 0 : 1,
            configure)
        started = cluster
        if let leader {
            try peer(leader, words).raft.campaign()
            try cluster.settle()
            guard cluster[leader].isLeader else { throw words.failure("\(leader) does not lead") }
        }
        if let entries {
            guard let leader else { throw words.failure("entries= needs leader=") }
            while cluster[leader].lastIndex < LogIndex(entries) {
                try cluster.propose("e\(cluster[leader].lastIndex + 1)", at: leader)
            }
            try cluster.settle()
        }
        seen = cluster.peers.map(Sight.init)
        cluster.onApply = { [unowned self] peer, entry in
            guard entry.kind != .normal else { return }
            output.append(
                "  \(peer.id.rawValue) applies \(ScenarioText.entry(entry)): "
                    + ScenarioText.membership(peer.configuration.state))
        }
    }

    private func settings(
        _ words: inout ScenarioWords
    ) throws(ScenarioError) -> (inout RaftConfiguration) -> Void {
        var changes: [(inout RaftConfiguration) -> Void] = []
        func flag(_ name: String, _ change: @escaping (inout RaftConfiguration) -> Void) {
            if words.flag(name) { changes.append(change) }
        }
        func number(
            _ name: String, _ change: @escaping (inout RaftConfiguration, UInt64) -> Void
        ) throws(ScenarioError) {
            if let value = try words.numberValue(name) { changes.append { change(&$0, value) } }
        }
        flag("preVote") { $0.preVote = true }
        flag("checkQuorum") { $0.checkQuorum = true }
        flag("leaseReads") { $0.readMode = .lease }
        flag("stepDownOnRemoval") { $0.stepDownOnRemoval = true }
        flag("refuseInvalidChanges") { $0.refuseInvalidConfChanges = true }
        flag("restartBarrier") { $0.restartCampaignBarrier = true }
        flag("durableVote") { $0.leadOnlyWithDurableVote = true }
        try number("maxInflightMessages") { $0.maxInflightMessages = Int(clamping: $1) }
        try number("maxInflightBytes") { $0.maxInflightBytes = $1 }
        try number("maxMessageBytes") { $0.maxMessageBytes = $1 }
        try number("maxUncommittedBytes") { $0.maxUncommittedBytes = $1 }
        try number("seed") { $0.seed = $1 }
        return { settings in for change in changes { change(&settings) } }
    }

    /// Peers as if they had lived through other terms: `1 terms=(1 1 2) term=3 commit=1`.
    private func setLogs(_ directive: ScenarioDirective, _ words: ScenarioWords) throws {
        try words.finish()
        let cluster = try cluster(words)
        guard !directive.input.isEmpty else { throw words.failure("logs needs lines of input") }
        for input in directive.input {
            var words = try ScenarioWords(input.text, line: input.line, skipsName: false)
            let id = try peer(try words.onlyNumber("peer"), words).id.rawValue
            let terms = try words.numberValues("terms") ?? []
            let term = try words.numberValue("term") ?? terms.last ?? 0
            let vote = try words.numberValue("vote") ?? 0
            let commit = try words.numberValue("commit") ?? 0
            try words.finish()
            guard commit <= UInt64(terms.count) else {
                throw words.failure("commit is past the log")
            }
            let disk = cluster[id].disk
            try disk.append(
                terms.enumerated().map { place, term in
                    Entry(term: Term(term), index: LogIndex(UInt64(place) + 1))
                })
            disk.setHardState(
                HardState(term: Term(term), vote: PeerID(vote), commit: LogIndex(commit)))
            try cluster.restart(id)
        }
        seen = cluster.peers.map(Sight.init)
    }

    // MARK: Failures

    private func failure(_ name: String, _ words: inout ScenarioWords) throws {
        let cluster = try cluster(words)
        let ids = try words.numbers()
        try words.finish()
        guard !ids.isEmpty else { throw words.failure("\(name) needs peers") }
        for id in ids {
            if name == "crash" {
                _ = try peer(id, words)
                down.insert(id)
            } else {
                guard down.contains(id) else { throw words.failure("peer \(id) is not down") }
                down.remove(id)
                try cluster.restart(id)
                seen[Int(id) - 1] = Sight(cluster[id])
            }
        }
    }

    // MARK: News

    /// Says what has become of a peer since this was last asked.
    func sayChanges(of peer: TestPeer) {
        let now = Sight(peer)
        let place = Int(peer.id.rawValue) - 1
        let old = seen[place]
        seen[place] = now
        if old.role != now.role || old.term != now.term || old.leader != now.leader {
            output.append("  \(peer.id.rawValue) is \(office(of: peer)), term \(now.term)")
        }
        for read in peer.readStates.dropFirst(old.reads) {
            output.append(
                "  \(peer.id.rawValue) may serve read \(ScenarioText.quoted(read.context)) "
                    + "at \(read.index)")
        }
    }

    /// `leader`, `candidate`, `follower`, `follower of 1`.
    func office(of peer: TestPeer) -> String {
        guard peer.role == .follower, peer.leader != .none else { return "\(peer.role)" }
        return "follower of \(peer.leader.rawValue)"
    }

    /// Says how far everybody has committed, if that has changed.
    private func sayCommits(since before: [LogIndex]) {
        guard let cluster = started, before.count == cluster.peers.count else { return }
        for peer in cluster.peers where !down.contains(peer.id.rawValue) { sayChanges(of: peer) }
        let rose = cluster.peers.contains { peer in
            !down.contains(peer.id.rawValue)
                && peer.committed > before[Int(peer.id.rawValue) - 1]
        }
        guard rose else { return }
        output.append("committed: \(committedEverywhere(cluster))")
    }

    /// `1=3 2=3 3=1`, with who is counted where that is not plain.
    func committedEverywhere(_ cluster: RaftCluster) -> String {
        let up = cluster.peers.filter { !down.contains($0.id.rawValue) }
        let commits = up.map { "\($0.id.rawValue)=\($0.committed)" }.joined(separator: " ")
        guard let leader = up.filter(\.isLeader).max(by: { $0.term < $1.term }) else {
            return commits
        }
        return commits + quorumNote(leader.configuration)
    }

    private func quorumNote(_ members: Configuration) -> String {
        func majority(_ set: PeerSet) -> String {
            "\(set.count / 2 + 1) of \(ScenarioText.peers(set.ids))"
        }
        var notes: [String] = []
        if members.isJoint {
            notes.append("quorum \(majority(members.voters)) and \(majority(members.outgoing))")
        } else if !members.learners.isEmpty {
            notes.append("quorum \(majority(members.voters))")
        }
        if !members.learners.isEmpty {
            notes.append("learners \(ScenarioText.peers(members.learners.ids)) not counted")
        }
        return notes.isEmpty ? "" : "  (\(notes.joined(separator: "; ")))"
    }
}
