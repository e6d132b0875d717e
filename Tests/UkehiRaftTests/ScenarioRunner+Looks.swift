// What a scenario looks at: directives that change nothing. Each file ends with one of them.

import UkehiBase

@testable import UkehiRaft

extension ScenarioRunner {
    /// The directives that look.
    static let looks: Set = [
        "state", "log", "disk", "leader", "members", "progress", "network", "commands", "reads",
    ]

    /// Says what is asked; false when the directive is no look.
    func look(_ name: String, _ words: inout ScenarioWords) throws -> Bool {
        guard Self.looks.contains(name) else { return false }
        let cluster = try cluster(words)
        switch name {
        case "leader":
            try words.finish()
            let leaders = cluster.peers.filter { $0.isLeader && !down.contains($0.id.rawValue) }
                .map { "\($0.id.rawValue) in term \($0.term)" }
            output.append("leader: \(leaders.isEmpty ? "none" : leaders.joined(separator: ", "))")
        case "network":
            try words.finish()
            if cluster.network.isEmpty { output.append("no messages") }
            output += cluster.network.map(ScenarioText.message)
        case "progress":
            let leader = try peer(try words.onlyNumber("leader"), words)
            try words.finish()
            guard leader.isLeader else {
                throw words.failure("\(leader.id.rawValue) does not lead")
            }
            for peer in leader.status.progress where peer.id != leader.id {
                output.append(progress(peer))
            }
        default:
            let peers = try peersNamed(&words)
            try words.finish()
            for peer in peers { output.append("\(peer.id.rawValue): \(look(name, at: peer))") }
        }
        return true
    }

    private func look(_ name: String, at peer: TestPeer) -> String {
        switch name {
        case "state":
            return "\(office(of: peer)), term=\(peer.term) vote=\(peer.vote.rawValue)"
                + " last=\(peer.lastIndex):\(peer.raft.lastTerm)"
                + " persisted=\(peer.raft.persisted)"
                + " committed=\(peer.committed) applied=\(peer.applied)"
        case "log": return log(of: peer)
        case "disk":
            let state = peer.disk.initialState().hardState
            let entries = peer.disk.allEntries
            return "term=\(state.term) vote=\(state.vote.rawValue) commit=\(state.commit)"
                + " log=[\(ScenarioText.entries(entries))]"
        case "members": return ScenarioText.membership(peer.configuration.state)
        case "commands":
            return peer.commands.isEmpty
                ? "nothing" : peer.commands.map { "\"\($0)\"" }.joined(separator: " ")
        default:
            return peer.readStates.isEmpty
                ? "none"
                : peer.readStates.map { "\(ScenarioText.quoted($0.context)) at \($0.index)" }
                    .joined(separator: ", ")
        }
    }

    /// `(..2) 3:1 "x" | 4:2 "y"`: compacted up to 2, committed up to the bar.
    private func log(of peer: TestPeer) -> String {
        let first = peer.raft.firstIndex
        let last = peer.lastIndex
        var text: [String] = []
        if first > LogIndex(1) { text.append("(..\(first - 1))") }
        if peer.committed < first { text.append("|") }
        var index = first
        while index <= last {
            let entries = try? peer.raft.raftEntries(at: index)
            text.append(entries ?? "\(index):?")
            if index == peer.committed { text.append("|") }
            index = index + 1
        }
        return text.joined(separator: "  ")
    }

    private func progress(_ peer: PeerProgress) -> String {
        var text = "\(peer.id.rawValue): \(peer.state) match=\(peer.match) next=\(peer.next)"
        if peer.state == .snapshot { text += " pendingSnapshot=\(peer.pendingSnapshot)" }
        if peer.inflightMessages > 0 {
            text += " inflight=\(peer.inflightMessages) (\(peer.inflightBytes) bytes)"
        }
        if peer.isWindowFull { text += " full" }
        if peer.isPaused { text += " paused" }
        if !peer.recentActive { text += " inactive" }
        if peer.isLearner { text += " learner" }
        return text
    }
}

extension RawNode {
    /// The entry at `index`, as scenarios show it.
    fileprivate mutating func raftEntries(at index: LogIndex) throws -> String {
        ScenarioText.entries(
            try core.log.slice(from: index, to: index + 1, maxBytes: .max))
    }
}
