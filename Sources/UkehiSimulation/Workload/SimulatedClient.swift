// A client that asks one thing after another, wherever it believes the leader to be, and writes down
// what it saw.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState

/// The keys of a simulation: a few in each region, so that clients meet.
struct SimulatedKeys {
    let ranges: [KeyRange]
    let perRegion: Int
    /// Whether the last key of each region is a counter.
    var hasCounters = false
    var count: Int { ranges.count * perRegion }

    func region(of key: Int) -> Int { key / perRegion }
    func name(_ key: Int) -> Bytes {
        Bytes(ranges[region(of: key)].lower.array + [0, UInt8(key % perRegion)])
    }
    func keys(of region: Int) -> [Int] { (0..<perRegion).map { region * perRegion + $0 } }
    func isCounter(_ key: Int) -> Bool {
        hasCounters && perRegion > 1 && key % perRegion == perRegion - 1
    }
    /// The number that a key's value says, told apart from all other keys' if it is a counter.
    func number(_ bytes: Bytes, of key: Int) -> UInt64? {
        SimulatedValue.number(bytes).map { isCounter(key) ? SimulatedValue.counterMark + $0 : $0 }
    }
}

/// Values carry a number of their own; some are long, so that segments fill.
enum SimulatedValue {
    /// Added to what a counter holds: no value that is put is so large.
    static let counterMark: UInt64 = 1 << 62
    static func bytes(_ number: UInt64) -> Bytes {
        let length = number % 61 == 0 ? 9000 : number % 7 == 0 ? 700 : 0
        return Bytes(Array("\(number)".utf8) + [UInt8](repeating: 0x20, count: length))
    }
    static func number(_ bytes: Bytes) -> UInt64? {
        var number: UInt64 = 0
        var digits = 0
        bytes.withUnsafeBytes { raw in
            for byte in raw {
                guard byte >= 0x30 && byte <= 0x39, digits < 19 else { break }
                number = number * 10 + UInt64(byte - 0x30)
                digits += 1
            }
        }
        return digits > 0 ? number : nil
    }
}

/// Which keys clients ask for.
enum SimulatedTaste {
    /// Any, and two of them most.
    case meeting
    /// Mostly a few that lie side by side, elsewhere for each client or the same for all; or one after the
    /// other, as if they were appended.
    case varied
}

final class SimulatedClient: ReplySink, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let number: Int
    private let world: World
    private let nodes: [SimulatedNode]
    private let keys: SimulatedKeys
    private let record: (HistoryOperation) -> Void
    /// Told of what was not done, as it is not part of the history.
    var onRejected: (HistoryOperation.Action) -> Void = { _ in }
    /// The same of a write of a session.
    var onSessionRejected: (SessionWrite, _ isExpired: Bool) -> Void = { _, _ in }
    private var random: SeededRandom
    private let latency: ClosedRange<UInt64>
    /// How long it waits for an answer before it asks elsewhere.
    private let patience: UInt64
    private let isReader: Bool
    private let isWanderer: Bool
    private let think: ClosedRange<UInt64>
    private let taste: SimulatedTaste
    /// The key that was written last, by one who writes them one after the other.
    private var lastKey = 0
    /// Where each region's leader is believed to be.
    private var leaders: [Int]
    /// The last value seen of each key, for compare-and-set.
    private var seen: [Int: UInt64] = [:]
    private let nextValue: () -> UInt64
    private var tag: UInt64 = 0
    private var current: (action: HistoryOperation.Action, call: UInt64)?
    /// Nil: it writes without sessions.
    private var session: SimulatedSession?
    /// What was asked, if it is a write of the session.
    private var asking: SimulatedSession.Write?
    private var isStopped = false
    /// Asked by hand, at the end: told the outcome instead of going on.
    private var completion: ((HistoryOperation.Outcome?) -> Void)?

    init(
        number: Int, world: World, nodes: [SimulatedNode], keys: SimulatedKeys,
        latency: ClosedRange<UInt64>, think: ClosedRange<UInt64>, taste: SimulatedTaste,
        random: SeededRandom,
        nextValue: @escaping () -> UInt64, record: @escaping (HistoryOperation) -> Void
    ) {
        self.number = number
        self.world = world
        self.nodes = nodes
        self.keys = keys
        self.latency = latency
        self.think = think
        self.taste = taste
        self.random = random
        self.nextValue = nextValue
        self.record = record
        leaders = Array(repeating: 0, count: keys.ranges.count)
        patience = [4_000_000_000, 1_000_000_000, 250_000_000][Int(self.random.next() % 3)]
        // Who mostly reads goes on asking a leader that can no longer write.
        let kind = self.random.next() % 3
        isReader = kind == 0
        // Who believes nobody finds a new leader while others still talk to the old one.
        isWanderer = kind == 1
        super.init()
    }

    /// Writes in sessions from now on.
    func openSession(random: SeededRandom) {
        session = SimulatedSession(world: world, random: random)
    }

    func start() { goOn(after: UInt64.random(in: think, using: &random)) }

    /// Ends after the operation that is under way.
    func stop() { isStopped = true }

    private func goOn(after pause: UInt64) {
        world.schedule(after: pause) { [self] in
            guard !isStopped else { return }
            if let late = session?.lateCopy() { sendAgain(late) }
            ask(nextAction())
        }
    }

    private func nextKey() -> Int {
        guard taste == .varied, !random.oneIn(5) else {
            // Half of all that is asked meets on two keys, so that clients see each other's work at once.
            return Int(random.next() % UInt64(random.oneIn(2) ? min(2, keys.count) : keys.count))
        }
        switch number % 4 {
        case 0:
            lastKey = (lastKey + 1) % keys.count
            return lastKey
        case 1: return min(keys.count - 1, keys.count / 2 + Int(random.next() % 4))
        default: return (number * 5 + Int(random.next() % 3)) % keys.count
        }
    }

    /// Sends a write of the past again, as a network may, and waits for no answer.
    private func sendAgain(_ write: SimulatedSession.Write) {
        let node = nodes[Int(random.next() % UInt64(nodes.count))]
        let delay = UInt64.random(in: latency, using: &random)
        world.schedule(after: delay) { [self] in
            guard node.isRunning, node.core != nil else { return }
            world.schedule(after: 0, of: node.process) { [self] in
                // No tag of any request: the answer is dropped.
                node.core?.submit(
                    ClientRequest(
                        operation: .write(record: write.record), key: write.key,
                        deadline: node.clock.now() + patience / 2, sink: self, tag: 0))
            }
        }
    }

    private func nextAction() -> HistoryOperation.Action {
        let key = nextKey()
        if isReader, !random.oneIn(10) { return .get(key: key) }
        if keys.isCounter(key) {
            return session == nil || random.oneIn(3) ? .get(key: key) : .increment(key: key)
        }
        switch random.next() % 100 {
        case 0..<40: return .get(key: key)
        case 40..<80: return .put(key: key, value: nextValue())
        case 80..<84: return .delete(key: key)
        case 84..<94: return .compareAndSet(key: key, expected: seen[key], value: nextValue())
        default: return .scan(keys: keys.keys(of: keys.region(of: key)))
        }
    }

    /// Asks one thing on its own; nil: nobody answered in time, or nothing was done.
    func ask(
        _ action: HistoryOperation.Action,
        then completion: @escaping (HistoryOperation.Outcome?) -> Void
    ) {
        self.completion = completion
        ask(action)
    }

    private func ask(_ action: HistoryOperation.Action) {
        current = (action, world.now)
        asking = command(action).flatMap { session?.write($0) }
        send(action)
    }

    private func send(_ action: HistoryOperation.Action) {
        tag += 1
        let asked = tag
        // As it is now: what is delivered late is what was sent.
        let record = asking?.record
        let target =
            isWanderer || random.oneIn(12)
            ? Int(random.next() % UInt64(nodes.count)) : leaders[region(of: action)]
        let delay = UInt64.random(in: latency, using: &random)
        let node = nodes[target]
        // A connection to a process that is not there is refused: nothing was done.
        world.schedule(after: delay) { [self] in
            guard node.isRunning, node.core != nil else { return finish(asked, nil) }
            world.schedule(after: 0, of: node.process) { [self] in
                guard let core = node.core else { return }
                core.submit(
                    request(
                        action, record, tag: asked, deadline: node.clock.now() + patience / 2))
            }
        }
        world.schedule(after: patience) { [self] in
            guard current != nil, tag == asked else { return }
            let silent = leaders[region(of: action)]
            let others = UInt64(nodes.count - 1)
            leaders[region(of: action)] =
                (silent + 1 + Int(random.next() % others)) % nodes.count
            finish(asked, .unknown)
        }
    }

    private func region(of action: HistoryOperation.Action) -> Int {
        switch action {
        case .get(let key), .put(let key, _), .delete(let key), .compareAndSet(let key, _, _),
            .increment(let key):
            keys.region(of: key)
        case .scan(let keys): self.keys.region(of: keys[0])
        }
    }

    private func request(
        _ action: HistoryOperation.Action, _ record: Bytes?, tag: UInt64, deadline: MonotonicTime
    ) -> ClientRequest {
        switch action {
        case .get(let key):
            return ClientRequest(
                operation: .get(.linearizable), key: keys.name(key), deadline: deadline,
                sink: self, tag: tag)
        case .scan(let keys):
            let region = self.keys.region(of: keys[0])
            return ClientRequest(
                operation: .scan(
                    upper: self.keys.ranges[region].upper, limit: 1000, .linearizable),
                key: self.keys.ranges[region].lower, deadline: deadline, sink: self, tag: tag)
        case .put, .delete, .compareAndSet, .increment:
            let command = command(action)
            let record = record ?? (try? command?.encoded()) ?? Bytes()
            return ClientRequest(
                operation: .write(record: record), key: command?.key ?? Bytes(),
                deadline: deadline, sink: self, tag: tag)
        }
    }

    /// Nil for what is no write.
    private func command(_ action: HistoryOperation.Action) -> Command? {
        switch action {
        case .get, .scan: nil
        case .put(let key, let value):
            .put(key: keys.name(key), value: SimulatedValue.bytes(value))
        case .delete(let key): .delete(key: keys.name(key))
        case .increment(let key): .increment(key: keys.name(key), by: 1)
        case .compareAndSet(let key, let expected, let value):
            .compareAndSet(
                key: keys.name(key),
                expected: expected.map { .value(SimulatedValue.bytes($0)) } ?? .absent,
                value: SimulatedValue.bytes(value))
        }
    }

    // MARK: Replies

    override func reply(_ reply: Reply, tag: UInt64) {
        // On its way back; whatever becomes of the node now, it was sent.
        let delay = UInt64.random(in: latency, using: &random)
        world.schedule(after: delay) { [self] in take(reply, tag) }
    }

    private func take(_ reply: Reply, _ tag: UInt64) {
        guard self.tag == tag, let current else { return }
        switch reply {
        case .value(let found):
            guard case .get(let key) = current.action else { return }
            let number = found.flatMap { keys.number($0.value, of: key) }
            seen[key] = number
            finish(tag, .found(number), version: found?.version)
        case .scan(let page):
            guard case .scan(let asked) = current.action else { return }
            // A page may end before the range does: what it says of is what lies before its end.
            let keys = asked.filter { key in page.next.map { self.keys.name(key) < $0 } ?? true }
            // It ended before all of them, where a region does that had been one with theirs.
            guard !keys.isEmpty else { return finish(tag, nil) }
            self.current?.action = .scan(keys: keys)
            var values: [UInt64?] = Array(repeating: nil, count: keys.count)
            for pair in page.pairs {
                if let position = keys.firstIndex(where: { self.keys.name($0) == pair.key }) {
                    values[position] = self.keys.number(pair.value, of: keys[position])
                } else {
                    world.fail("a scan shows the key \(pair.key), which nobody wrote")
                }
            }
            finish(tag, .scanned(values))
        case .command(.applied(let version)): finish(tag, .done, version: version)
        case .command(.counter(let value, let version)):
            finish(
                tag, .counted(SimulatedValue.counterMark + UInt64(clamping: value)),
                version: version)
        case .command(.conditionFailed): finish(tag, .conditionFailed)
        case .command(.sessionExpired(let openAt)) where asking != nil:
            session?.rename(openAt: openAt)
            finish(tag, nil, isExpired: true)
        case .failed(.outcomeUnknown): finish(tag, .unknown)
        case .failed(.rejected(let reason)):
            let region = region(of: current.action)
            if case .notLeader(let info) = reason, let leader = info.leader,
                let number = nodes.firstIndex(where: { $0.core?.nodeID == leader })
            {
                leaders[region] = number
            } else {
                leaders[region] = Int(random.next() % UInt64(nodes.count))
            }
            finish(tag, nil)
        default: world.fail("client \(number) was answered \(reply) to \(current.action)")
        }
    }

    /// The operation is over; nil: nothing was done, and that is certain.
    private func finish(
        _ tag: UInt64, _ outcome: HistoryOperation.Outcome?, version: UInt64? = nil,
        isExpired: Bool = false
    ) {
        guard self.tag == tag, let (action, call) = current else { return }
        // A write of a session is asked again, whatever became of it.
        if !isExpired, outcome == nil || outcome == .unknown, completion == nil,
            asking?.mayAskAgain(isUnknown: outcome == .unknown) ?? false
        {
            leaveDeadLeader(of: action)
            let again = self.tag
            world.schedule(after: 10_000_000) { [self] in
                if self.tag == again, current != nil { send(action) }
            }
            return
        }
        current = nil
        world.trace.mix(UInt64(number) << 48 ^ tag)
        var outcome = outcome
        // A refusal says nothing of what was sent before it.
        if outcome == nil, asking?.isUnknown ?? false { outcome = .unknown }
        let write = asking?.write
        if let asking { session?.isOver(asking, wasRejected: outcome == nil) }
        asking = nil
        if let outcome {
            var operation = HistoryOperation(
                client: number, action: action, call: call,
                ret: outcome == .unknown ? nil : world.now, outcome: outcome)
            operation.version = version
            operation.sessionWrite = write
            record(operation)
        } else {
            if let write {
                onSessionRejected(write, isExpired)
            } else {
                onRejected(action)
            }
            leaveDeadLeader(of: action)
        }
        if let completion {
            self.completion = nil
            return completion(outcome)
        }
        // A refusal is tried again elsewhere after a moment.
        goOn(after: outcome == nil ? 10_000_000 : UInt64.random(in: think, using: &random))
    }

    private func leaveDeadLeader(of action: HistoryOperation.Action) {
        guard !nodes[leaders[region(of: action)]].isRunning else { return }
        leaders[region(of: action)] = Int(random.next() % UInt64(nodes.count))
    }
}
