// The commands of the quorum files: `committed` and `vote` over one or two majorities.

import UkehiBase

@testable import UkehiRaft

enum QuorumInterpreter {
    static func run(_ directive: Directive) throws -> String {
        var ids: [UInt64] = []
        var idsJoint: [UInt64] = []
        var joint = false
        // Zero is an underscore: nothing known. Both are read whatever the command is.
        var indexes: [UInt64] = []
        var votes: [UInt64] = []
        for argument in directive.commandLine.arguments {
            guard !argument.values.isEmpty else {
                throw TranscriptError("unknown argument \(argument.key)")
            }
            for value in argument.values {
                switch (argument.key, value) {
                case ("cfg", _):
                    ids.append(try CommandLine.number(value))
                case ("cfgj", "zero"):
                    guard argument.values.count == 1 else {
                        throw TranscriptError("cannot mix 'zero' into configuration")
                    }
                    joint = true
                case ("cfgj", _):
                    joint = true
                    idsJoint.append(try CommandLine.number(value))
                case ("idx", "_"):
                    indexes.append(0)
                case ("idx", _):
                    indexes.append(try CommandLine.number(value))
                    guard indexes.last != 0 else { throw TranscriptError("cannot use 0 as idx") }
                case ("votes", "_"):
                    votes.append(0)
                case ("votes", "y"):
                    votes.append(2)
                case ("votes", "n"):
                    votes.append(1)
                default:
                    throw TranscriptError("unknown argument \(argument.key)=\(value)")
                }
            }
        }
        let incoming = PeerSet(ids.map { PeerID($0) })
        let outgoing = PeerSet(idsJoint.map { PeerID($0) })
        let voters = incoming.union(outgoing)
        let inputs = directive.command == "vote" ? votes : indexes
        guard voters.count == inputs.count else {
            let map = voters.ids.map { "\($0.rawValue):{}" }.joined(separator: " ")
            let list = inputs.map { index(LogIndex($0)) }.joined(separator: " ")
            return "error: mismatched input (explicit or _) for voters map[\(map)]: [\(list)]"
        }
        var known: [UInt64: UInt64] = [:]
        var next = 0
        for id in ids + idsJoint where known[id] == nil {
            known[id] = inputs[next]
            next += 1
        }
        known = known.filter { $0.value != 0 }

        switch directive.command {
        case "committed":
            return committed(incoming, outgoing, joint: joint, known)
        case "vote":
            return vote(incoming, outgoing, joint: joint, known)
        default:
            throw TranscriptError("unknown command: \(directive.command)")
        }
    }

    private static func index(_ index: LogIndex) -> String {
        index.rawValue == .max ? "∞" : "\(index)"
    }

    private static func committed(
        _ incoming: PeerSet, _ outgoing: PeerSet, joint: Bool, _ known: [UInt64: UInt64]
    ) -> String {
        func reached(_ a: PeerSet, _ b: PeerSet, _ known: [UInt64: UInt64]) -> LogIndex {
            Quorum.committedIndex(incoming: a, outgoing: b) {
                known[$0.rawValue].map { LogIndex($0) }
            }
        }
        var text = describe(joint ? incoming.union(outgoing) : incoming, known)
        if joint {
            let result = reached(incoming, outgoing, known)
            let swapped = reached(outgoing, incoming, known)
            if swapped != result { text += "\(index(swapped)) <-- via symmetry\n" }
            return text + "\(index(result))\n"
        }
        func majority(_ known: [UInt64: UInt64]) -> LogIndex {
            Quorum.committedIndex(of: incoming) { known[$0.rawValue].map { LogIndex($0) } }
        }
        let result = majority(known)
        let other = alternative(incoming, known)
        if other != result { text += "\(index(other)) <-- via alternative computation\n" }
        let zeroJoint = reached(incoming, PeerSet(), known)
        if zeroJoint != result { text += "\(index(zeroJoint)) <-- via zero-joint quorum\n" }
        let selfJoint = reached(incoming, incoming, known)
        if selfJoint != result { text += "\(index(selfJoint)) <-- via self-joint quorum\n" }
        for id in incoming.ids {
            // An index below the result may sink further without changing it.
            let own = known[id.rawValue] ?? 0
            guard result.rawValue > own, own > 0 else { continue }
            for lower in [own - 1, 0] {
                var changed = known
                changed[id.rawValue] = lower
                let now = majority(changed)
                if now != result {
                    text +=
                        "\(index(now)) <-- overlaying \(id.rawValue)->\(lower == 0 ? 0 : own)"
                }
            }
        }
        return text + "\(index(result))\n"
    }

    /// The definition itself: the highest index that a majority has.
    private static func alternative(
        _ voters: PeerSet, _ known: [UInt64: UInt64]
    ) -> LogIndex {
        if voters.isEmpty { return LogIndex(.max) }
        let acked = voters.ids.compactMap { known[$0.rawValue] }
        let candidates = acked.filter { candidate in
            acked.count { $0 >= candidate } > voters.count / 2
        }
        return LogIndex(candidates.max() ?? 0)
    }

    private static func describe(_ voters: PeerSet, _ known: [UInt64: UInt64]) -> String {
        if voters.isEmpty { return "<empty majority quorum>" }
        struct Row {
            var id: UInt64
            var value: UInt64
            var isKnown: Bool
            var bar = 0
        }
        var rows = voters.ids.map {
            Row(
                id: $0.rawValue, value: known[$0.rawValue] ?? 0,
                isKnown: known[$0.rawValue] != nil)
        }
        rows.sort { ($0.value, $0.id) < ($1.value, $1.id) }
        for place in rows.indices.dropFirst() {
            let isHigher = rows[place - 1].value < rows[place].value
            rows[place].bar = isHigher ? place : rows[place - 1].bar
        }
        rows.sort { $0.id < $1.id }
        let count = rows.count
        func pad(_ width: Int) -> String { String(repeating: " ", count: width) }
        var text = pad(count) + "    idx\n"
        for row in rows {
            if row.isKnown {
                text += String(repeating: "x", count: row.bar) + ">" + pad(count - row.bar)
            } else {
                text += "?" + pad(count)
            }
            let value = "\(row.value)"
            let id = String(row.id, radix: 16)
            text += " " + pad(max(0, 5 - value.count)) + value + "    (id=\(id))\n"
        }
        return text
    }

    private static func vote(
        _ incoming: PeerSet, _ outgoing: PeerSet, joint: Bool, _ known: [UInt64: UInt64]
    ) -> String {
        func result(_ a: PeerSet, _ b: PeerSet) -> VoteResult {
            Quorum.result(incoming: a, outgoing: b) { known[$0.rawValue].map { $0 != 1 } }
        }
        func name(_ result: VoteResult) -> String {
            switch result {
            case .pending: "VotePending"
            case .lost: "VoteLost"
            case .won: "VoteWon"
            }
        }
        func majority() -> VoteResult {
            Quorum.result(of: incoming) { known[$0.rawValue].map { $0 != 1 } }
        }
        let outcome = joint ? result(incoming, outgoing) : majority()
        var text = ""
        if joint, result(outgoing, incoming) != outcome {
            text += "\(name(result(outgoing, incoming))) <-- via symmetry\n"
        }
        return text + name(outcome) + "\n"
    }
}
