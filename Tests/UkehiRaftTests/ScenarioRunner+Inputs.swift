// What scenarios give to one peer: inputs, time, the work of its storage and state machine.

import UkehiBase

@testable import UkehiRaft

extension ScenarioRunner {
    func input(_ name: String, _ words: inout ScenarioWords) throws {
        let cluster = try cluster(words)
        if name == "tick" { return try tick(&words) }
        if name == "change" { return try change(&words) }
        let peer = try peer(try words.onlyNumber("peer"), words)
        let id = peer.id.rawValue
        var result: Result<Void, RaftError> = .success(())
        var what = name
        switch name {
        case "campaign":
            try words.finish()
            peer.raft.campaign()
        case "propose":
            let commands = words.texts()
            try words.finish()
            guard !commands.isEmpty else { throw words.failure("propose needs \"commands\"") }
            for command in commands {
                what = "\"\(command)\""
                result = attempt { () throws(RaftError) in _ = try peer.raft.propose(Bytes(command))
                }
                say(result, peer, what)
            }
            result = .success(())
        case "read":
            let contexts = words.texts()
            try words.finish()
            guard contexts.count == 1 else { throw words.failure("read needs one \"name\"") }
            what = "read \"\(contexts[0])\""
            result = attempt { () throws(RaftError) in
                try peer.raft.readIndex(context: Bytes(contexts[0]))
            }
        case "transfer":
            guard let target = try words.numberValue("to") else { throw words.failure("to= whom?") }
            try words.finish()
            peer.raft.transferLeadership(to: PeerID(target))
        case "forgetLeader":
            try words.finish()
            peer.raft.forgetLeader()
        case "unreachable":
            guard let other = try words.numberValue("peer") else {
                throw words.failure("peer= who?")
            }
            try words.finish()
            peer.raft.reportUnreachable(PeerID(other))
        case "snapshotStatus":
            guard let other = try words.numberValue("peer") else {
                throw words.failure("peer= who?")
            }
            let isFailed = words.flag("failed")
            guard isFailed != words.flag("ok") else { throw words.failure("ok or failed?") }
            try words.finish()
            peer.raft.reportSnapshot(PeerID(other), ok: !isFailed)
        case "support":
            guard let ticks = try words.numberValue("ticks") else { throw words.failure("ticks=?") }
            try words.finish()
            peer.raft.leaderSupported(until: peer.raft.ticks + ticks)
        case "timeout":
            guard let ticks = try words.numberValue("ticks") else { throw words.failure("ticks=?") }
            try words.finish()
            peer.raft.setElectionTimeout(ticks: Int(clamping: ticks))
        default:
            throw words.failure("unknown directive '\(name)'")
        }
        say(result, peer, what)
        cluster.collect(cluster[id])
        sayChanges(of: peer)
    }

    private func attempt(_ body: () throws(RaftError) -> Void) -> Result<Void, RaftError> {
        do {
            try body()
            return .success(())
        } catch {
            return .failure(error)
        }
    }

    private func say(_ result: Result<Void, RaftError>, _ peer: TestPeer, _ what: String) {
        guard case .failure(let error) = result else { return }
        output.append("  \(peer.id.rawValue) refuses \(what): \(ScenarioText.refusal(error))")
    }

    /// `change 1 addVoter=4 remove=(2 3) explicit`, `change 1 leave`; steps in the order given.
    private func change(_ words: inout ScenarioWords) throws {
        let cluster = try cluster(words)
        let peer = try peer(try words.onlyNumber("peer"), words)
        var change = ConfigurationChange()
        let isLeave = words.flag("leave")
        if words.flag("explicit") { change.transition = .jointExplicit }
        if words.flag("implicit") { change.transition = .jointImplicit }
        for (key, values) in words.options() {
            let kind: ConfigurationChange.Step.Kind
            switch key {
            case "addVoter": kind = .addVoter
            case "addLearner": kind = .addLearner
            case "remove": kind = .remove
            case "update": kind = .update
            default: throw words.failure("unknown step '\(key)='")
            }
            for value in values {
                change.steps.append(.init(kind, PeerID(try words.number(value))))
            }
        }
        try words.finish()
        guard isLeave == change.leavesJoint else {
            throw words.failure("a change has steps, or says leave")
        }
        let result = attempt { () throws(RaftError) in
            _ = try peer.raft.proposeConfChange(change)
        }
        say(result, peer, ScenarioText.change(change))
        cluster.collect(peer)
        sayChanges(of: peer)
    }

    private func tick(_ words: inout ScenarioWords) throws {
        let count = try words.numberValue("count") ?? 1
        let peers = try peersNamed(&words)
        try words.finish()
        let cluster = try cluster(words)
        for _ in 0..<count {
            for peer in peers {
                cluster.tick(peer.id.rawValue)
                sayChanges(of: peer)
            }
        }
    }

    // MARK: Storage

    func storage(_ name: String, _ words: inout ScenarioWords) throws {
        let cluster = try cluster(words)
        if name == "work" {
            let peers = try peersNamed(&words)
            try words.finish()
            for peer in peers {
                try cluster.work(peer)
                sayChanges(of: peer)
            }
            return
        }
        let peer = try peer(try words.onlyNumber("peer"), words)
        switch name {
        case "write", "apply":
            let count = try words.numberValue("count")
            try words.finish()
            try store(name, peer, count: count, words)
        case "flush":
            try words.finish()
            peer.disk.flushed = peer.state
        case "compact":
            guard let index = try words.numberValue("upTo") else { throw words.failure("upTo=?") }
            try words.finish()
            guard LogIndex(index) <= peer.state.index else {
                throw words.failure("\(index) is not applied")
            }
            // What is dropped from the log must be in a snapshot.
            peer.disk.flushed = peer.state
            try peer.disk.compact(to: LogIndex(index))
        default:
            throw words.failure("unknown directive '\(name)'")
        }
    }

    /// Completes the oldest writes or applies that a peer has in its queue; all, without a count.
    private func store(
        _ name: String, _ peer: TestPeer, count: UInt64?, _ words: ScenarioWords
    ) throws {
        let cluster = try cluster(words)
        let isWrite = name == "write"
        var left = count ?? .max
        guard !(isWrite ? peer.appends : peer.applies).isEmpty else {
            throw words.failure("peer \(peer.id.rawValue) has nothing to \(name)")
        }
        while left > 0, let next = (isWrite ? peer.appends : peer.applies).first {
            left -= 1
            var line = "  \(peer.id.rawValue) \(isWrite ? "writes" : "applies")"
            if isWrite {
                if next.term != .zero {
                    line += " term=\(next.term) vote=\(next.vote.rawValue) commit=\(next.commit)"
                }
                if let snapshot = next.snapshot {
                    line += " snapshot=\(snapshot.index):\(snapshot.term)"
                }
            }
            if !next.entries.isEmpty { line += " [\(ScenarioText.entries(next.entries))]" }
            output.append(line)
            if isWrite { try cluster.write(peer) } else { try cluster.apply(peer) }
            sayChanges(of: peer)
        }
        if let count, left > 0, count != .max {
            throw words.failure("only \(count - left) to \(name)")
        }
    }
}
