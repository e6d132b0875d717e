// The parts of small worlds, each kept once and known by a number.
//
// A world's successor differs from it in one peer and a few messages, and the same peer in the same
// state is given the same message in very many worlds. So each distinct pair of peer state and input
// goes through the core once; everything else is numbers. What the rules say is kept for pairs too.

import UkehiBase
import UkehiRaft

/// What the explorer asks of a peer's state again and again.
struct PeerLook: BitwiseCopyable {
    var slot: UInt8
    var isLeader: Bool
    var isCandidate: Bool
    var hasPendingWrites: Bool
    var term: UInt8
    /// The term that no crash takes away.
    var durableTerm: UInt8
    /// The number of its log, durable or not.
    var log: UInt32
}

/// What the explorer asks of a message again and again.
struct MessageLook: BitwiseCopyable {
    var toSlot: UInt8
    var term: UInt8
    var isVote: Bool
}

/// A growing row of plain values.
final class Row<Value: BitwiseCopyable> {
    private(set) var start: UnsafeMutablePointer<Value>
    private(set) var count = 0
    private var capacity = 256

    init() { start = .allocate(capacity: capacity) }
    deinit { start.deallocate() }

    @inline(__always)
    subscript(place: Int) -> Value { start[place] }

    @inline(__always)
    func append(_ value: Value) {
        if count == capacity { grow() }
        start[count] = value
        count += 1
    }

    func removeAll() { count = 0 }

    private func grow() {
        let larger = UnsafeMutablePointer<Value>.allocate(capacity: capacity * 2)
        larger.update(from: start, count: count)
        start.deallocate()
        start = larger
        capacity *= 2
    }
}

/// What comes of an input.
struct Transition: BitwiseCopyable {
    var peer: UInt32
    /// The messages sent, as a range of ``WorldParts/sent``.
    var firstSent: Int
    var sentCount: Int
    /// Why it must not be; an index into ``WorldParts/broken``, or -1.
    var broken: Int
}

/// What the rules say of one peer in the light of a history.
struct Judgement: BitwiseCopyable {
    /// The history with what this peer adds.
    var history: UInt32
    /// Entries committed in that history.
    var committed: Int
    var isComplete: Bool
    var durablyHeld: Int
    var broken: Int
}

/// Inputs as numbers: messages follow after these.
enum InputCode {
    static let campaign: UInt32 = 0
    static let heartbeat: UInt32 = 1
    static let write: UInt32 = 2
    static let crash: UInt32 = 3
    /// Command 1 and those after it, fewer than 16.
    static let propose: UInt32 = 4
    static let deliver: UInt32 = 20
}

final class WorldParts {
    private let bounds: ExplorationBounds
    private var models: [ModelPeer] = []
    private(set) var facts: [PeerFacts] = []
    let peers = Row<PeerLook>()
    let messageLooks = Row<MessageLook>()
    private(set) var messages: [Message] = []
    private(set) var histories: [WorldHistory] = []
    private(set) var broken: [BrokenPromise] = []
    let sent = Row<UInt32>()
    private var logs: [[LogCell]] = []

    /// Six for each number, one for each naming.
    let peerPrints = Row<Fingerprint>()
    let messagePrints = Row<Fingerprint>()
    let historyPrints = Row<Fingerprint>()

    private var peerNumbers: [Fingerprint: UInt32] = [:]
    private var messageNumbers: [Fingerprint: UInt32] = [:]
    private var historyNumbers: [WorldHistory: UInt32] = [:]
    private var logNumbers: [[LogCell]: UInt32] = [:]

    private let transitionNumbers = PairTable()
    private let transitions = Row<Transition>()
    private let judgementNumbers = PairTable()
    private let judgements = Row<Judgement>()
    private let logMatches = PairTable()

    init(_ bounds: ExplorationBounds) { self.bounds = bounds }

    /// How often the core was run.
    var transitionCount: Int { transitions.count }

    // MARK: Numbers

    func number(of peer: ModelPeer) -> UInt32 {
        let print = peer.fingerprint(Naming.all[0])
        if let known = peerNumbers[print] { return known }
        let number = UInt32(models.count)
        peerNumbers[print] = number
        peerPrints.append(print)
        for naming in Naming.all.dropFirst() { peerPrints.append(peer.fingerprint(naming)) }
        let known = peer.facts
        let log = logNumbers[known.log] ?? UInt32(logs.count)
        if log == logs.count {
            logs.append(known.log)
            logNumbers[known.log] = log
        }
        models.append(peer)
        facts.append(known)
        peers.append(
            PeerLook(
                slot: UInt8(peer.id.rawValue - 1), isLeader: known.isLeader,
                isCandidate: peer.node.role == .candidate,
                hasPendingWrites: !peer.pending.isEmpty, term: UInt8(clamping: known.term),
                durableTerm: UInt8(clamping: peer.durableTerm.rawValue), log: log))
        return number
    }

    func number(of message: Message) -> UInt32 {
        let print = message.fingerprint(Naming.all[0])
        if let known = messageNumbers[print] { return known }
        let number = UInt32(messages.count)
        messages.append(message)
        messageLooks.append(
            MessageLook(
                toSlot: UInt8(message.to.rawValue - 1),
                term: UInt8(clamping: message.term.rawValue),
                isVote: message.kind == .requestVoteResponse))
        messageNumbers[print] = number
        messagePrints.append(print)
        for naming in Naming.all.dropFirst() { messagePrints.append(message.fingerprint(naming)) }
        return number
    }

    func number(of history: WorldHistory) -> UInt32 {
        if let known = historyNumbers[history] { return known }
        let number = UInt32(histories.count)
        histories.append(history)
        historyNumbers[history] = number
        for naming in Naming.all { historyPrints.append(history.fingerprint(naming)) }
        return number
    }

    private func note(_ promise: BrokenPromise) -> Int {
        broken.append(promise)
        return broken.count - 1
    }

    // MARK: What comes of what

    /// What comes of giving a peer an input.
    func transition(_ peer: UInt32, _ code: UInt32) -> Transition {
        if let known = transitionNumbers[peer, code] { return transitions[Int(known)] }
        let input: PeerInput =
            switch code {
            case InputCode.campaign: .campaign
            case InputCode.heartbeat: .heartbeat
            case InputCode.write: .write
            case InputCode.crash: .crash
            case ..<InputCode.deliver: .propose(UInt64(code - InputCode.propose) + 1)
            default: .deliver(messages[Int(code - InputCode.deliver)])
            }
        let before = facts[Int(peer)]
        let name = models[Int(peer)].id
        let after = models[Int(peer)].fork()
        var transition = Transition(peer: peer, firstSent: sent.count, sentCount: 0, broken: -1)
        do {
            let new = try after.give(input)
            transition.peer = number(of: after)
            transition.sentCount = new.count
            for message in new { sent.append(number(of: message)) }
            let committed = facts[Int(transition.peer)].committed
            if input != .crash, committed < before.committed {
                transition.broken = note(
                    BrokenPromise(
                        promise: .commitNeverFalls,
                        detail: "\(name) had committed \(before.committed) "
                            + "entries, now \(committed)"))
            }
        } catch {
            transition.broken = note(
                BrokenPromise(
                    promise: .wellFormed, detail: "\(name) refuses: \(error)"))
        }
        transitionNumbers[peer, code] = UInt32(transitions.count)
        transitions.append(transition)
        return transition
    }

    /// What the rules say of a peer in the light of a history.
    func judgement(_ history: UInt32, _ peer: UInt32) -> Judgement {
        if let known = judgementNumbers[history, peer] { return judgements[Int(known)] }
        let facts = facts[Int(peer)]
        var past = histories[Int(history)]
        var judgement = Judgement(
            history: history, committed: 0, isComplete: true, durablyHeld: 0, broken: -1)
        do {
            try SafetyRules.note(facts, slot: Int(peers[Int(peer)].slot), in: &past)
            judgement.history = number(of: past)
        } catch {
            judgement.broken = note(error)
        }
        judgement.committed = past.committed.count
        judgement.isComplete = !facts.isLeader || SafetyRules.isComplete(facts, past)
        judgement.durablyHeld = SafetyRules.durablyHeld(facts, past)
        judgementNumbers[history, peer] = UInt32(judgements.count)
        judgements.append(judgement)
        return judgement
    }

    /// Whether the logs of two peers keep log matching.
    func logsMatch(_ a: UInt32, _ b: UInt32) -> Bool {
        let first = peers[Int(a)].log
        let second = peers[Int(b)].log
        if first == second { return true }
        if let known = logMatches[first, second] { return known == 1 }
        let match = SafetyRules.match(logs[Int(first)], logs[Int(second)])
        logMatches[first, second] = match ? 1 : 0
        return match
    }

    /// Whether a message can never matter again to its recipient, whatever happens: its term, or the
    /// election it speaks of, is over for good, and giving it to the peer shows that nothing comes of it.
    func isStale(_ message: UInt32, for peer: UInt32) -> Bool {
        let part = peers[Int(peer)]
        let said = messageLooks[Int(message)]
        let isOver =
            said.term < part.durableTerm
            || (said.isVote && said.term <= part.durableTerm
                && !(part.isCandidate && part.term == said.term))
        guard isOver else { return false }
        let transition = transition(peer, InputCode.deliver + message)
        return transition.peer == peer && transition.sentCount == 0 && transition.broken < 0
    }
}
