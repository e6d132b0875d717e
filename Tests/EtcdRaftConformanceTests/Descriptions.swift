// How the reference prints states, messages and Readys; the names are etcd's.

import UkehiBase

@testable import UkehiRaft

extension MessageKind {
    static let etcdNames: [(MessageKind, String)] = [
        (.hup, "MsgHup"), (.beat, "MsgBeat"), (.propose, "MsgProp"), (.appendEntries, "MsgApp"),
        (.appendEntriesResponse, "MsgAppResp"), (.requestVote, "MsgVote"),
        (.requestVoteResponse, "MsgVoteResp"), (.installSnapshot, "MsgSnap"),
        (.heartbeat, "MsgHeartbeat"), (.heartbeatResponse, "MsgHeartbeatResp"),
        (.unreachable, "MsgUnreachable"), (.snapshotStatus, "MsgSnapStatus"),
        (.checkQuorum, "MsgCheckQuorum"), (.transferLeader, "MsgTransferLeader"),
        (.timeoutNow, "MsgTimeoutNow"), (.readIndex, "MsgReadIndex"),
        (.readIndexResponse, "MsgReadIndexResp"), (.requestPreVote, "MsgPreVote"),
        (.requestPreVoteResponse, "MsgPreVoteResp"), (.storageAppend, "MsgStorageAppend"),
        (.storageAppendResponse, "MsgStorageAppendResp"), (.storageApply, "MsgStorageApply"),
        (.storageApplyResponse, "MsgStorageApplyResp"), (.forgetLeader, "MsgForgetLeader"),
    ]

    var etcdName: String { Self.etcdNames.first { $0.0 == self }?.1 ?? "Msg?" }

    init?(etcdName: String) {
        guard let found = Self.etcdNames.first(where: { $0.1 == etcdName }) else { return nil }
        self = found.0
    }
}

extension Role {
    var etcdName: String {
        switch self {
        case .follower: "StateFollower"
        case .candidate: "StateCandidate"
        case .leader: "StateLeader"
        case .preCandidate: "StatePreCandidate"
        }
    }
}

extension ProgressState {
    var etcdName: String {
        switch self {
        case .probe: "StateProbe"
        case .replicate: "StateReplicate"
        case .snapshot: "StateSnapshot"
        }
    }
}

extension PeerSet {
    /// As in `(1 2 a)`: hexadecimal, as in the log and unlike most of what is compared.
    var etcdDescription: String {
        "(" + ids.map { String($0.rawValue, radix: 16) }.joined(separator: " ") + ")"
    }
}

extension Configuration {
    var etcdDescription: String {
        var text = "voters=" + voters.etcdDescription
        if !outgoing.isEmpty { text += "&&" + outgoing.etcdDescription }
        if !learners.isEmpty { text += " learners=" + learners.etcdDescription }
        if !learnersNext.isEmpty { text += " learners_next=" + learnersNext.etcdDescription }
        if autoLeave { text += " autoleave" }
        return text
    }
}

extension PeerProgress {
    /// One line of a status.
    var etcdDescription: String {
        var text = "\(id.rawValue): \(state.etcdName) match=\(match) next=\(next)"
        if isLearner { text += " learner" }
        if isPaused { text += " paused" }
        if pendingSnapshot > .zero { text += " pendingSnap=\(pendingSnapshot)" }
        if !recentActive { text += " inactive" }
        if inflightMessages > 0 {
            text += " inflight=\(inflightMessages)"
            if isWindowFull { text += "[full]" }
        }
        return text
    }
}

/// An error that the reference writes into its output and goes on from.
struct ReportedError: Error {
    var text: String
    init(_ text: String) { self.text = text }
}

enum Describe {
    /// As Go quotes a string of bytes.
    static func quoted(_ data: Bytes) -> String {
        let named: [UInt32: String] = [
            0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0a: "\\n", 0x0b: "\\v", 0x0c: "\\f",
            0x0d: "\\r", 0x22: "\\\"", 0x5c: "\\\\",
        ]
        var text = "\""
        for scalar in String(decoding: data.array, as: UTF8.self).unicodeScalars {
            if let name = named[scalar.value] {
                text += name
            } else if scalar.value < 0x20 || scalar.value == 0x7f {
                let hex = String(scalar.value, radix: 16)
                text += "\\x" + (hex.count < 2 ? "0" : "") + hex
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    static func target(_ id: PeerID) -> String {
        switch id {
        case .none: "None"
        case .localAppend: "AppendThread"
        case .localApply: "ApplyThread"
        default: String(id.rawValue, radix: 16)
        }
    }

    static func list(_ ids: [PeerID]) -> String {
        "[" + ids.map { "\($0.rawValue)" }.joined(separator: " ") + "]"
    }

    static func state(_ state: ConfigurationState) -> String {
        "Voters:\(list(state.voters)) VotersOutgoing:\(list(state.votersOutgoing)) "
            + "Learners:\(list(state.learners)) LearnersNext:\(list(state.learnersNext)) "
            + "AutoLeave:\(state.autoLeave)"
    }

    static func snapshot(_ snapshot: Snapshot) -> String {
        "Index:\(snapshot.index) Term:\(snapshot.term) "
            + "ConfState:\(state(snapshot.configuration))"
    }

    static func change(_ change: ConfigurationChange) -> String {
        change.steps.map { step in
            let letter =
                switch step.kind {
                case .addVoter: "v"
                case .addLearner: "l"
                case .remove: "r"
                case .update: "u"
                }
            return "\(letter)\(step.peer.rawValue)"
        }.joined(separator: " ")
    }

    static func entry(_ entry: Entry) -> String {
        let name: String
        var text: String
        switch entry.kind {
        case .normal:
            name = "EntryNormal"
            text = quoted(entry.data)
        case .confChange, .confChangeV2:
            name = entry.kind == .confChange ? "EntryConfChange" : "EntryConfChangeV2"
            do {
                text = change(try ConfigurationChange.decode(entry))
            } catch {
                text = error.description
            }
        }
        if !text.isEmpty { text = " " + text }
        return "\(entry.term)/\(entry.index) \(name)\(text)"
    }

    static func entries(_ entries: [Entry]) -> String {
        entries.map { entry($0) + "\n" }.joined()
    }

    static func message(_ message: Message, indent: String = "") -> String {
        var text =
            "\(indent)\(target(message.from))->\(target(message.to)) \(message.kind.etcdName) "
            + "Term:\(message.term) Log:\(message.logTerm)/\(message.index)"
        if message.reject { text += " Rejected (Hint: \(message.rejectHint))" }
        if message.commit != .zero { text += " Commit:\(message.commit)" }
        if message.vote != .none { text += " Vote:\(message.vote.rawValue)" }
        if message.entries.count == 1 {
            text += " Entries:[\(entry(message.entries[0]))]"
        } else if !message.entries.isEmpty {
            text += " Entries:["
            for each in message.entries { text += "\n\(indent)  \(entry(each))" }
            text += "\n\(indent)]"
        }
        if let carried = message.snapshot, !carried.isEmpty {
            text += "\n\(indent)  Snapshot: \(snapshot(carried))"
        }
        if !message.responses.isEmpty {
            text += " Responses:["
            for response in message.responses {
                text += "\n" + Self.message(response, indent: indent + "  ")
            }
            text += "\n\(indent)]"
        }
        return text
    }

    static func ready(_ ready: Ready) -> String {
        var text = ""
        if let soft = ready.softState {
            text += "Lead:\(soft.leader.rawValue) State:\(soft.role.etcdName)\n"
        }
        if let hard = ready.hardState, !hard.isEmpty {
            text += "HardState Term:\(hard.term)"
            if hard.vote != .none { text += " Vote:\(hard.vote.rawValue)" }
            text += " Commit:\(hard.commit)\n"
        }
        if !ready.readStates.isEmpty {
            let states = ready.readStates.map { state in
                let bytes = state.context.array.map { "\($0)" }.joined(separator: " ")
                return "{\(state.index) [\(bytes)]}"
            }
            text += "ReadStates [\(states.joined(separator: " "))]\n"
        }
        if !ready.entries.isEmpty { text += "Entries:\n" + entries(ready.entries) }
        if let snapshot = ready.snapshot, !snapshot.isEmpty {
            text += "Snapshot \(Self.snapshot(snapshot))\n"
        }
        if !ready.committedEntries.isEmpty {
            text += "CommittedEntries:\n" + entries(ready.committedEntries)
        }
        if !ready.messages.isEmpty {
            text += "Messages:\n"
            for each in ready.messages { text += message(each) + "\n" }
        }
        return text.isEmpty ? "<empty Ready>" : "Ready MustSync=\(ready.mustSync):\n\(text)"
    }

    /// Errors as the reference words them; nil when it has none like it.
    static func error(_ error: any Error) -> String? {
        switch error {
        case let reported as ReportedError: reported.text
        case RaftError.proposalDropped: "raft proposal dropped"
        case RaftError.localMessage: "raft: cannot step raft local message"
        case RaftError.unknownPeer: "raft: cannot step as peer not found"
        case LogStorageError.compacted:
            "requested index is unavailable due to compaction"
        case LogStorageError.unavailable: "requested entry at index is unavailable"
        case LogStorageError.snapshotTemporarilyUnavailable:
            "snapshot is temporarily unavailable"
        default: nil
        }
    }

    /// How the reference words a refusal depends on what was attempted.
    static func membership(_ error: MembershipError, simple: Bool = false) -> String {
        switch error {
        case .alreadyJoint:
            simple
                ? "can't apply simple config change in joint config" : "config is already joint"
        case .notJoint: "can't leave a non-joint config"
        case .emptyCannotBeJoint: "can't make a zero-voter config joint"
        case .needsJoint: "more than one voter changed without entering joint config"
        case .noVoters: "removed all voters"
        case .inconsistent(let id): "inconsistent roles of \(id.rawValue)"
        case .invalidPeer(let id): "invalid peer \(id.rawValue)"
        }
    }
}
