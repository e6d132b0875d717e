// What can happen in a small world, in 32 bits and in words; and how much of it is left.

import UkehiBase
import UkehiRaft

struct WorldAction {
    enum Kind: UInt32 {
        case campaign, propose, heartbeat, write, crash, deliver, duplicate, lose
    }
    let kind: Kind
    /// A slot, or a message's number.
    let subject: UInt32

    init(_ kind: Kind, slot: Int) {
        self.kind = kind
        subject = UInt32(slot)
    }
    init(_ kind: Kind, message: UInt32) {
        self.kind = kind
        subject = message
    }
    init(packed: UInt32) {
        kind = Kind(rawValue: packed & 7) ?? .campaign
        subject = packed >> 3
    }
    var packed: UInt32 { subject << 3 | kind.rawValue }

    func words(_ parts: WorldParts, command: Int) -> String {
        switch kind {
        case .campaign: "peer \(subject + 1) campaigns"
        case .propose: "peer \(subject + 1) is given command \(command)"
        case .heartbeat: "peer \(subject + 1) sends heartbeats"
        case .write: "peer \(subject + 1) finishes a write"
        case .crash: "peer \(subject + 1) crashes and starts again from its disk"
        case .deliver: "delivered: \(parts.messages[Int(subject)].words)"
        case .duplicate: "delivered, and kept on its way: \(parts.messages[Int(subject)].words)"
        case .lose: "lost: \(parts.messages[Int(subject)].words)"
        }
    }
}

extension Message {
    /// In one line.
    fileprivate var words: String {
        var words = "\(from.rawValue) -> \(to.rawValue) \(kind) term=\(term)"
        switch kind {
        case .appendEntries:
            let terms = entries.map { entry in
                entry.data.isEmpty ? "\(entry.term)" : "\(entry.term):\(entry.data[0])"
            }
            words += " after=\(index)/\(logTerm) commit=\(commit) entries=["
            words += terms.joined(separator: " ") + "]"
        case .requestVote, .requestPreVote: words += " last=\(index)/\(logTerm)"
        case .appendEntriesResponse: words += " index=\(index)"
        case .heartbeat: words += " commit=\(commit)"
        default: break
        }
        if reject { words += " rejected" }
        return words
    }
}

/// What may still happen.
struct WorldLeft {
    var elections: Int
    var commands: Int
    var crashes: Int
    var disturbances: Int
    var heartbeats: Int

    init(_ bounds: ExplorationBounds) {
        elections = bounds.elections
        commands = bounds.commands
        crashes = bounds.crashes
        disturbances = bounds.disturbances ?? 0
        heartbeats = bounds.heartbeats
    }

    init(packed: UInt32) {
        commands = Int(packed & 15)
        crashes = Int(packed >> 4 & 15)
        disturbances = Int(packed >> 8 & 15)
        heartbeats = Int(packed >> 12 & 15)
        elections = Int(packed >> 16 & 15)
    }

    var packed: UInt32 {
        UInt32(commands) | UInt32(crashes) << 4 | UInt32(disturbances) << 8
            | UInt32(heartbeats) << 12 | UInt32(elections) << 16
    }
}
