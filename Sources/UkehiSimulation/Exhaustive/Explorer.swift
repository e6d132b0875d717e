// Every state of a small world, breadth first: three peers of one group, a network that may deliver
// anything in any order, disks that take their time, crashes.
//
//   state    | number | peer 1 | peer 2 | peer 3 | history | left | n | n messages, ascending |
//
// All numbers are those of ``WorldParts``. States of one depth and the next are kept whole; of all
// others there is a fingerprint, to know them again, and how they were reached, to tell a trace.
//
// A state is a point between two inputs: after each, a peer does what follows at once, but for its
// writes, which wait for an action of their own. What is explored and what is not is in
// docs/TESTING.md.

import UkehiBase
import UkehiRaft

/// How far an exploration has come.
public struct ExplorationProgress: Hashable, Sendable {
    /// Distinct ones; worlds that differ only in the names of peers count once.
    public var states = 0
    /// Actions taken, those that led to a known state included.
    public var actions = 0
    /// Actions from the start to the states being looked at.
    public var depth = 0
    /// States of the next depth found so far.
    public var waiting = 0
    /// Distinct states of single peers, and how often the core was given something.
    public var peerStates = 0
    public var coreSteps = 0
}

/// What an exploration found.
public struct ExplorationResult: Sendable {
    public var progress: ExplorationProgress
    /// No state is left to be looked at.
    public var isComplete: Bool
    /// The first promise found broken, with the actions that lead there: no sequence is shorter.
    public var broken: BrokenPromise?
    public var trace: [String] = []
}

public final class Explorer {
    let bounds: ExplorationBounds
    let parts: WorldParts
    private let known = FingerprintSet()
    /// How each state was reached.
    private let parents = Row<UInt32>()
    private let actions = Row<UInt32>()
    private var level = Row<UInt32>()
    private var nextLevel = Row<UInt32>()
    private var progress = ExplorationProgress()
    private var broken: (promise: BrokenPromise, state: UInt32, action: WorldAction)?
    /// What is being tried, for a core that ends the process.
    private var current: (state: UInt32, action: WorldAction) = (0, WorldAction(.campaign, slot: 0))
    /// The messages of the successor being made.
    private var scratch: [UInt32] = []
    /// The fingerprints of the messages of the state being looked at, and of its successor's.
    private var messageSums = Sums()
    private var scratchSums = Sums()
    private var isFull = false

    private static let header = 7
    private let forgetsNothing: Bool

    public init(_ bounds: ExplorationBounds) {
        self.bounds = bounds
        parts = WorldParts(bounds)
        forgetsNothing = bounds.disturbances == nil
    }

    /// Explores everything, calling `report` now and then.
    public func run(report: (ExplorationProgress) -> Void = { _ in }) -> ExplorationResult {
        if let fault = bounds.fault { invariant(false, fault) }
        start()
        var sinceReport = 0
        while nextLevel.count > 0, broken == nil, !isFull {
            swap(&level, &nextLevel)
            nextLevel.removeAll()
            var place = 0
            while place < level.count, broken == nil, !isFull {
                expand(at: place)
                place += Self.header + Int(level[place + 6])
                sinceReport += 1
                if sinceReport == 1024 {
                    sinceReport = 0
                    report(currentProgress)
                }
            }
            if broken == nil, !isFull, nextLevel.count > 0 { progress.depth += 1 }
        }
        return ExplorationResult(
            progress: currentProgress, isComplete: broken == nil && !isFull,
            broken: broken?.promise,
            trace: broken.map { trace(to: $0.state, then: $0.action) } ?? [])
    }

    private var currentProgress: ExplorationProgress {
        var progress = progress
        progress.states = known.count
        progress.waiting = waiting
        progress.peerStates = parts.peers.count
        progress.coreSteps = parts.transitionCount
        return progress
    }
    private var waiting = 0

    /// Three peers that have never heard of anything.
    private func start() {
        var peers: [UInt32] = []
        for id in 1...3 as ClosedRange<UInt64> {
            do {
                peers.append(parts.number(of: try ModelPeer(PeerID(id), bounds)))
            } catch {
                invariant(false, "a peer of a small world can't start: \(error)")
            }
        }
        let history = parts.number(of: WorldHistory(terms: bounds.elections))
        let left = WorldLeft(bounds)
        scratch = []
        scratchSums = Sums()
        _ = add(
            (peers[0], peers[1], peers[2]), history: history, left: left.packed, parent: 0,
            action: WorldAction(.campaign, slot: 0))
    }

    // MARK: One state

    private struct Here {
        var state: UInt32
        var peers: (UInt32, UInt32, UInt32)
        var history: UInt32
        var left: WorldLeft
        var messages: Range<Int>
    }

    /// Takes every action that is possible in the state at `place` of the level.
    private func expand(at place: Int) {
        let first = place + Self.header
        let here = Here(
            state: level[place], peers: (level[place + 1], level[place + 2], level[place + 3]),
            history: level[place + 4], left: WorldLeft(packed: level[place + 5]),
            messages: first..<first + Int(level[place + 6]))
        waiting -= 1
        messageSums = Sums()
        for place in here.messages { messageSums.add(level[place], parts.messagePrints) }
        for slot in 0..<3 {
            let number = pick(here.peers, slot)
            let part = parts.peers[Int(number)]
            if part.isLeader {
                if here.left.commands > 0 {
                    var left = here.left
                    let command = UInt32(bounds.commands - left.commands)
                    left.commands -= 1
                    take(
                        WorldAction(.propose, slot: slot), here, slot, InputCode.propose + command,
                        left)
                }
                if here.left.heartbeats > 0 {
                    var left = here.left
                    left.heartbeats -= 1
                    take(
                        WorldAction(.heartbeat, slot: slot), here, slot, InputCode.heartbeat, left)
                }
            } else if here.left.elections > 0 {
                var left = here.left
                left.elections -= 1
                take(WorldAction(.campaign, slot: slot), here, slot, InputCode.campaign, left)
            }
            if part.hasPendingWrites {
                take(WorldAction(.write, slot: slot), here, slot, InputCode.write, here.left)
            }
            if here.left.crashes > 0 {
                var left = here.left
                left.crashes -= 1
                take(WorldAction(.crash, slot: slot), here, slot, InputCode.crash, left)
            }
        }
        var previous = UInt32.max
        for place in here.messages where level[place] != previous {
            let message = level[place]
            previous = message
            let slot = Int(parts.messageLooks[Int(message)].toSlot)
            let code = InputCode.deliver + message
            take(
                WorldAction(.deliver, message: message), here, slot, code, here.left,
                without: forgetsNothing ? .max : message)
            if here.left.disturbances > 0 {
                var left = here.left
                left.disturbances -= 1
                take(WorldAction(.duplicate, message: message), here, slot, code, left)
                lose(message, here, left)
            }
        }
    }

    private func pick(_ peers: (UInt32, UInt32, UInt32), _ slot: Int) -> UInt32 {
        slot == 0 ? peers.0 : slot == 1 ? peers.1 : peers.2
    }

    /// Gives a peer an input and adds the world that comes of it.
    private func take(
        _ action: WorldAction, _ here: Here, _ slot: Int, _ code: UInt32, _ left: WorldLeft,
        without removed: UInt32 = .max
    ) {
        guard broken == nil else { return }
        progress.actions += 1
        current = (here.state, action)
        let old = pick(here.peers, slot)
        let transition = parts.transition(old, code)
        if transition.broken >= 0 { return report(transition.broken, here, action) }
        var peers = here.peers
        switch slot {
        case 0: peers.0 = transition.peer
        case 1: peers.1 = transition.peer
        default: peers.2 = transition.peer
        }
        let judgement = parts.judgement(here.history, transition.peer)
        if judgement.broken >= 0 { return report(judgement.broken, here, action) }

        let hasChanged = transition.peer != old
        // Most deliveries in a network that forgets nothing are of old news.
        if !hasChanged, transition.sentCount == 0, removed == .max, left.packed == here.left.packed
        {
            return
        }
        scratch.removeAll(keepingCapacity: true)
        scratchSums = messageSums
        var toRemove = removed
        for place in here.messages {
            let message = level[place]
            if message == toRemove {
                toRemove = .max
                scratchSums.remove(message, parts.messagePrints)
            } else if hasChanged, isStale(message, peers, only: slot) {
                scratchSums.remove(message, parts.messagePrints)
            } else {
                scratch.append(message)
            }
        }
        for place in transition.firstSent..<transition.firstSent + transition.sentCount {
            let message = parts.sent[place]
            if !isStale(message, peers, only: -1) { insert(message) }
        }
        if !add(
            peers, history: judgement.history, left: left.packed, parent: here.state,
            action: action)
        {
            return
        }
        check(peers, judgement.history, here, action)
    }

    /// A message is gone.
    private func lose(_ message: UInt32, _ here: Here, _ left: WorldLeft) {
        guard broken == nil else { return }
        progress.actions += 1
        scratch.removeAll(keepingCapacity: true)
        scratchSums = messageSums
        scratchSums.remove(message, parts.messagePrints)
        var toRemove = message
        for place in here.messages {
            if level[place] == toRemove { toRemove = .max } else { scratch.append(level[place]) }
        }
        _ = add(
            here.peers, history: here.history, left: left.packed, parent: here.state,
            action: WorldAction(.lose, message: message))
    }

    private func isStale(
        _ message: UInt32, _ peers: (UInt32, UInt32, UInt32), only slot: Int
    ) -> Bool {
        if bounds.keepsStaleMessages { return false }
        let to = Int(parts.messageLooks[Int(message)].toSlot)
        guard slot < 0 || to == slot else { return false }
        return parts.isStale(message, for: pick(peers, to))
    }

    /// Keeps the messages in order; a network that forgets nothing has each once.
    private func insert(_ message: UInt32) {
        var place = scratch.count
        while place > 0, scratch[place - 1] > message { place -= 1 }
        if forgetsNothing, place > 0, scratch[place - 1] == message { return }
        scratch.insert(message, at: place)
        scratchSums.add(message, parts.messagePrints)
    }

    /// Adds the world with the messages in `scratch`; false if it is known.
    private func add(
        _ peers: (UInt32, UInt32, UInt32), history: UInt32, left: UInt32, parent: UInt32,
        action: WorldAction
    ) -> Bool {
        guard known.insert(fingerprint(peers, history, left)) else { return false }
        let number = UInt32(parents.count)
        parents.append(parent)
        actions.append(action.packed)
        nextLevel.append(number)
        nextLevel.append(peers.0)
        nextLevel.append(peers.1)
        nextLevel.append(peers.2)
        nextLevel.append(history)
        nextLevel.append(left)
        nextLevel.append(UInt32(scratch.count))
        for message in scratch { nextLevel.append(message) }
        waiting += 1
        if parents.count >= bounds.maxStates { isFull = true }
        return true
    }

    private func fingerprint(
        _ peers: (UInt32, UInt32, UInt32), _ history: UInt32, _ left: UInt32
    ) -> Fingerprint {
        var printer = Fingerprinter(kind: 4)
        printer.add(UInt64(left))
        let base = printer.value
        let first = parts.peerPrints.start + Int(peers.0) * 6
        let second = parts.peerPrints.start + Int(peers.1) * 6
        let third = parts.peerPrints.start + Int(peers.2) * 6
        let past = parts.historyPrints.start + Int(history) * 6
        var least = Fingerprint(low: .max, high: .max)
        for naming in 0..<6 {
            let sum =
                base &+ first[naming] &+ second[naming] &+ third[naming] &+ past[naming]
                &+ scratchSums[naming]
            if sum < least { least = sum }
        }
        return least
    }

    // MARK: Promises

    /// Checks a new state.
    private func check(
        _ peers: (UInt32, UInt32, UInt32), _ history: UInt32, _ here: Here, _ action: WorldAction
    ) {
        let a = parts.judgement(history, peers.0)
        let b = parts.judgement(history, peers.1)
        let c = parts.judgement(history, peers.2)
        let median = max(
            min(a.durablyHeld, b.durablyHeld),
            min(max(a.durablyHeld, b.durablyHeld), c.durablyHeld))
        if a.isComplete, b.isComplete, c.isComplete, median == a.committed,
            parts.logsMatch(peers.0, peers.1), parts.logsMatch(peers.0, peers.2),
            parts.logsMatch(peers.1, peers.2)
        {
            return
        }
        // The same once more, in words.
        do {
            try SafetyRules.check(
                [peers.0, peers.1, peers.2].map { parts.facts[Int($0)] },
                parts.histories[Int(history)])
            invariant(false, "the quick check of a state and the rules disagree")
        } catch {
            broken = (error, here.state, action)
        }
    }

    private func report(_ number: Int, _ here: Here, _ action: WorldAction) {
        broken = (parts.broken[number], here.state, action)
    }

    // MARK: Traces

    /// The actions that lead to what is being tried now; for the time when the core ends the process.
    public var currentTrace: [String] { trace(to: current.state, then: current.action) }

    private func trace(to state: UInt32, then last: WorldAction) -> [String] {
        var taken = [last]
        var state = state
        while state != 0 {
            taken.append(WorldAction(packed: actions[Int(state)]))
            state = parents[Int(state)]
        }
        var command = 0
        return taken.reversed().map { action in
            if action.kind == .propose { command += 1 }
            return action.words(parts, command: command)
        }
    }
}

/// The sums of some messages' fingerprints, one for each naming.
private struct Sums {
    private var sums: InlineArray<6, Fingerprint> = .init(repeating: .zero)

    subscript(naming: Int) -> Fingerprint { sums[naming] }

    mutating func add(_ message: UInt32, _ prints: Row<Fingerprint>) {
        let own = prints.start + Int(message) * 6
        for naming in 0..<6 { sums[naming] = sums[naming] &+ own[naming] }
    }
    mutating func remove(_ message: UInt32, _ prints: Row<Fingerprint>) {
        let own = prints.start + Int(message) * 6
        for naming in 0..<6 { sums[naming] = sums[naming] &- own[naming] }
    }
}
