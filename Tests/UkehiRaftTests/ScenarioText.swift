// How messages, logs and memberships look in a scenario's output: one line each, in the project's
// own names, with an entry as `index:term`.

import UkehiBase

@testable import UkehiRaft

enum ScenarioText {
    /// `3:1 "x"`; an entry without data, as opens a term, is `3:1`.
    static func entry(_ entry: Entry) -> String {
        let place = "\(entry.index):\(entry.term)"
        if entry.kind == .normal {
            return entry.data.isEmpty ? place : "\(place) \(quoted(entry.data))"
        }
        guard let change = try? ConfigurationChange.decode(entry) else { return "\(place) ?" }
        return "\(place) \(self.change(change))"
    }

    static func entries(_ entries: [Entry]) -> String {
        entries.map(entry).joined(separator: ", ")
    }

    static func quoted(_ data: Bytes) -> String {
        "\"\(String(decoding: data.array, as: UTF8.self))\""
    }

    static func change(_ change: ConfigurationChange) -> String {
        if change.leavesJoint { return "leaveJoint" }
        var words = change.steps.map { "\($0.kind) \($0.peer.rawValue)" }
        switch change.transition {
        case .automatic: break
        case .jointImplicit: words.append("implicit")
        case .jointExplicit: words.append("explicit")
        }
        return words.joined(separator: " ")
    }

    static func peers(_ peers: [PeerID]) -> String {
        "(\(peers.map { "\($0.rawValue)" }.joined(separator: " ")))"
    }

    /// `voters=(1 2 3)`, `voters=(1 4 5)&&(1 2 3) learners=(6)`.
    static func membership(_ state: ConfigurationState) -> String {
        var text = "voters=\(peers(state.voters))"
        if !state.votersOutgoing.isEmpty { text += "&&\(peers(state.votersOutgoing))" }
        if !state.learners.isEmpty { text += " learners=\(peers(state.learners))" }
        if !state.learnersNext.isEmpty { text += " learnersNext=\(peers(state.learnersNext))" }
        if state.autoLeave { text += " autoLeave" }
        return text
    }

    /// `1 -> 2 heartbeat term=1 commit=3`.
    static func message(_ message: Message) -> String {
        var words = ["\(message.from.rawValue) -> \(message.to.rawValue) \(message.kind)"]
        if message.term != .zero { words.append("term=\(message.term)") }
        switch message.kind {
        case .appendEntries:
            words.append("prev=\(message.index):\(message.logTerm)")
            if !message.entries.isEmpty { words.append("entries=[\(entries(message.entries))]") }
            words.append("commit=\(message.commit)")
        case .appendEntriesResponse:
            if message.reject {
                words.append("rejected prev=\(message.index)")
                words.append("hint=\(message.rejectHint):\(message.logTerm)")
            } else {
                words.append("match=\(message.index)")
            }
        case .requestVote, .requestPreVote:
            words.append("last=\(message.index):\(message.logTerm)")
            if CampaignContext.isTransfer(message.context) { words.append("transfer") }
        case .requestVoteResponse, .requestPreVoteResponse:
            words.append(message.reject ? "refused" : "granted")
        case .heartbeat:
            words.append("commit=\(message.commit)")
            if let read = ReadQueue.decode(message.context) { words.append("read=\(read)") }
        case .heartbeatResponse:
            if let read = ReadQueue.decode(message.context) { words.append("read=\(read)") }
        case .installSnapshot:
            if let snapshot = message.snapshot {
                words.append("snapshot=\(snapshot.index):\(snapshot.term)")
                words.append(membership(snapshot.configuration))
            }
        case .propose:
            words.append("[\(message.entries.map(proposal).joined(separator: ", "))]")
        case .readIndex:
            words.append(quoted(message.context))
        case .readIndexResponse:
            words.append("index=\(message.index) \(quoted(message.context))")
        default:
            break
        }
        return words.joined(separator: " ")
    }

    private static func proposal(_ entry: Entry) -> String {
        if entry.kind == .normal { return quoted(entry.data) }
        guard let change = try? ConfigurationChange.decode(entry) else { return "?" }
        return self.change(change)
    }

    /// Why a core refused something, in few words.
    static func refusal(_ error: RaftError) -> String {
        switch error {
        case .proposalDropped(.notLeader(nil)): "no leader is known"
        case .proposalDropped(.notLeader(let hint?)): "not the leader, \(hint.rawValue) is"
        case .proposalDropped(.transferring(let peer)): "leadership goes to \(peer.rawValue)"
        case .proposalDropped(.removed): "this leader is no member"
        case .proposalDropped(.tooManyUncommittedBytes): "too many uncommitted bytes"
        case .proposalDropped(.changePending(let index)): "a change is pending at \(index)"
        case .proposalDropped(.changeWhileJoint): "the joint configuration comes first"
        case .proposalDropped(.nothingToLeave): "no joint configuration to leave"
        case .noLeader: "no leader is known"
        case .unknownPeer(let peer): "\(peer.rawValue) is no member"
        case .malformed(let fault): "malformed, \(fault)"
        default: "\(error)"
        }
    }
}
