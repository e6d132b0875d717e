// What the transport's tests share: a node that records what it is told, random messages, bytes.

import Logging
import NIOCore
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiRaft
import UkehiState

@testable import UkehiTransport

/// A seeded generator (SplitMix64), so that a failing run can be repeated.
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    mutating func bytes(_ count: Int) -> Bytes {
        Bytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &self) })
    }
}

/// A clock that tests move.
final class TestClock: NodeClock {
    private let nanoseconds = Atomic<UInt64>(1_000_000_000)
    func now() -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.load(ordering: .relaxed)) }
    func wallNanoseconds() -> UInt64 { 0 }
    func advance(by step: UInt64) { nanoseconds.add(step, ordering: .relaxed) }
}

/// Collects log lines.
struct RecordingLogHandler: LogHandler {
    final class Lines: Sendable {
        private let lines = Mutex<[String]>([])
        func append(_ line: String) { lines.withLock { $0.append(line) } }
        var all: [String] { lines.withLock { $0 } }
    }
    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { lines.append("\(event.level): \(event.message)") }

    static func logger(_ lines: Lines = Lines()) -> Logger {
        Logger(label: "test") { _ in RecordingLogHandler(lines: lines) }
    }
}

/// A node as the transport sees it: records what it is told and lets tests wait for it.
final class TestNode: TransportEvents {
    enum Event: Sendable {
        case connected(Hello, dialed: String)
        case messages([RegionMessage], from: NodeID)
        case control(Bytes, from: Hello)
        case unreachable(NodeID)
        case refused(String, dialed: String)
        case dismissed(String, by: String)
        case request(ClientRequest)
    }

    private struct State {
        var hello: Hello
        var refusal: String?
        var isForGood = false
        var judged: [(remote: Hello, dialed: String?)] = []
        var dismissals: [String] = []
    }
    private let state: Mutex<State>
    private let continuation: AsyncStream<Event>.Continuation
    /// Everything told, in order; one reader.
    let events: AsyncStream<Event>
    /// Answers requests at once; those it has no answer for are events.
    let answer: (@Sendable (ClientRequest) -> Reply?)?

    init(_ hello: Hello, answer: (@Sendable (ClientRequest) -> Reply?)? = nil) {
        state = Mutex(State(hello: hello))
        self.answer = answer
        (events, continuation) = AsyncStream<Event>.makeStream()
    }

    func become(_ hello: Hello) { state.withLock { $0.hello = hello } }
    func dismiss(_ reason: String) {
        state.withLock { state in
            state.refusal = reason
            state.isForGood = true
        }
    }
    func refuse(_ reason: String?) { state.withLock { $0.refusal = reason } }
    var judged: [(remote: Hello, dialed: String?)] { state.withLock { $0.judged } }

    func localHello() -> Hello { state.withLock { $0.hello } }
    func judge(_ remote: Hello, dialed: String?) -> HandshakeVerdict {
        state.withLock { state in
            state.judged.append((remote, dialed))
            return state.refusal.map { state.isForGood ? .dismiss($0) : .refuse($0) } ?? .accept
        }
    }
    func connected(_ remote: Hello, dialed: String) {
        continuation.yield(.connected(remote, dialed: dialed))
    }
    func received(_ messages: [RegionMessage], from node: NodeID) {
        continuation.yield(.messages(messages, from: node))
    }
    func received(control: Bytes, from remote: Hello) {
        continuation.yield(.control(control, from: remote))
    }
    func refused(_ reason: String, dialed: String) {
        continuation.yield(.refused(reason, dialed: dialed))
    }
    var dismissals: [String] { state.withLock { $0.dismissals } }
    func dismissed(_ reason: String, by address: String) {
        state.withLock { $0.dismissals.append(reason) }
        continuation.yield(.dismissed(reason, by: address))
    }
    func unreachable(_ node: NodeID) { continuation.yield(.unreachable(node)) }
    func submit(_ request: ClientRequest) {
        guard let reply = answer?(request) else {
            continuation.yield(.request(request))
            return
        }
        request.sink.reply(reply, tag: request.tag)
        request.sink.flush()
    }
}

extension AsyncStream.Iterator {
    /// The first event that `select` takes something from; others are passed over.
    mutating func first<T>(
        isolation: isolated (any Actor)? = #isolation, _ select: (Element) -> T?
    ) async -> T? {
        while let event = await next(isolation: isolation) {
            if let found = select(event) { return found }
        }
        return nil
    }
}

func hello(_ name: String, node: UInt64?, address: String = "127.0.0.1:1") -> Hello {
    Hello(
        name: name, address: address, incarnation: Incarnation(7),
        cluster: node == nil ? nil : ClusterID(high: 1, low: 2), node: node.map { NodeID($0) })
}

func append(_ sizes: [Int], region: UInt64 = 1, index: UInt64 = 10) -> RegionMessage {
    let entries = sizes.enumerated().map { offset, size in
        Entry(
            term: Term(3), index: LogIndex(index + 1 + UInt64(offset)),
            data: Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: size), count: size)))
    }
    return RegionMessage(
        region: RegionID(region), epoch: RegionEpoch(confVersion: 1, version: 1),
        message: Message(
            kind: .appendEntries, to: PeerID(2), from: PeerID(1), term: Term(3),
            logTerm: Term(2), index: LogIndex(index), commit: LogIndex(9), entries: entries))
}

func heartbeat(region: UInt64 = 1, commit: UInt64 = 1) -> RegionMessage {
    RegionMessage(
        region: RegionID(region), epoch: RegionEpoch(confVersion: 1, version: 1),
        message: Message(
            kind: .heartbeat, to: PeerID(2), from: PeerID(1), term: Term(3),
            commit: LogIndex(commit)))
}

/// The bytes of one frame.
func frameBytes(_ type: FrameType, _ payload: Bytes) -> [UInt8] {
    var frame = [UInt8](repeating: 0, count: FrameHeader.bytes) + payload.array
    frame.withUnsafeMutableBytes { FrameHeader.seal($0, type: type) }
    return frame
}

func encodeMessages(_ messages: [RegionMessage]) -> Bytes {
    let sizes = messages.map {
        MessageCodec.bytes(of: $0.message, entryBytes: MessageCodec.entryBytes(of: $0.message))
    }
    return encodeExactly(4 + sizes.reduce(0, +)) { writer in
        writer.put(UInt32(messages.count))
        for message in messages { MessageCodec.encode(message, into: &writer) }
    }
}

func encodeExactly(_ size: Int, _ body: (inout RawWriter) -> Void) -> Bytes {
    var block = [UInt8](repeating: 0, count: size)
    let written = block.withUnsafeMutableBytes { raw in
        var writer = RawWriter(raw)
        body(&writer)
        return writer.count
    }
    precondition(written == size, "\(written) of \(size) bytes")
    return Bytes(block)
}

extension RegionMessage {
    func isEqual(to other: RegionMessage) -> Bool {
        region == other.region && epoch == other.epoch && message == other.message
    }
}
