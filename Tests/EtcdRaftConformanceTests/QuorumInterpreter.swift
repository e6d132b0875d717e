// The commands of the quorum files: `committed` and `vote` over one or two majorities.

import UkehiBase

@testable import UkehiRaft

enum QuorumInterpreter {
    static func run(_ directive: Directive) throws -> String {
        var ids: [UInt64] = []
        var idsJoint: [UInt64] = []
        var joint = false
        /// Nil is an underscore: nothing known, which differs from zero.
        var inputs: [UInt64] = []
        for argument in directive.arguments {
            for value in argument.values {
                switch (argument.key, value) {
                case ("cfg", _):
                    ids.append(try number(value))
                case ("cfgj", "zero"):
                    joint = true
                case ("cfgj", _):
                    joint = true
                    idsJoint.append(try number(value))
                case ("idx", "_"), ("votes", "_"):
                    inputs.append(0)
                case ("idx", _):
                    inputs.append(try number(value))
                case ("votes", "y"):
                    inputs.append(2)
                case ("votes", "n"):
                    inputs.append(1)
                default:
                    throw DataDrivenError("unknown argument \(argument.key)=\(value)")
                }
            }
            if argument.key == "cfgj" { joint = true }
        }
        let incoming = PeerSet(ids.map { PeerID($0) })
        let outgoing = PeerSet(idsJoint.map { PeerID($0) })
        let voters = incoming.union(outgoing)
        guard voters.count == inputs.count else {
            let map = voters.ids.map { "\($0.rawValue):{}" }.joined(separator: " ")
            let list = inputs.map { "\($0)" }.joined(separator: " ")
            return
                "error: mismatched input (explicit or _) for voters map[\(map)]: [\(list)]\n"
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
            throw DataDrivenError("unknown command \(directive.command)")
        }
    }

    private static func number(_ text: String) throws -> UInt64 {
        guard let value = UInt64(text) else { throw DataDrivenError("no number: \(text)") }
        return value
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
        let result = reached(incoming, PeerSet(), known)
        let other = alternative(incoming, known)
        if other != result { text += "\(index(other)) <-- via alternative computation\n" }
        let selfJoint = reached(incoming, incoming, known)
        if selfJoint != result { text += "\(index(selfJoint)) <-- via self-joint quorum\n" }
        for id in incoming.ids {
            // An index below the result may sink further without changing it.
            let own = known[id.rawValue] ?? 0
            guard result.rawValue > own, own > 0 else { continue }
            for lower in [own - 1, 0] {
                var changed = known
                changed[id.rawValue] = lower
                let now = reached(incoming, PeerSet(), changed)
                if now != result {
                    text += "\(index(now)) <-- overlaying \(id.rawValue)->\(lower)"
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
            text += " " + pad(max(0, 5 - value.count)) + value + "    (id=\(row.id))\n"
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
        let outcome = result(incoming, outgoing)
        var text = ""
        if joint, result(outgoing, incoming) != outcome {
            text += "\(name(result(outgoing, incoming))) <-- via symmetry\n"
        }
        return text + name(outcome) + "\n"
    }
}
