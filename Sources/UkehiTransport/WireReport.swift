// What the transport counts and says: counters for figures, log lines that nobody can flood.

import Logging
import NIOCore
import Synchronization

/// Counters since start, over all connections of a node.
package struct TransportStatistics: Hashable, Sendable {
    package var framesSent: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var framesReceived: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var messagesSent: UInt64 = 0
    package var messagesReceived: UInt64 = 0
    /// Messages that were not sent because of back-pressure or a missing connection.
    package var messagesDropped: UInt64 = 0
    package var requests: UInt64 = 0
    /// Requests answered `overloaded` here, before the node saw them.
    package var requestsRefused: UInt64 = 0
    package var connectionsAccepted: UInt64 = 0
    /// Closed because of what the other side sent or failed to send in time.
    package var connectionsFaulted: UInt64 = 0
    /// Refused by us in a handshake, or closed by the other side with a reason.
    package var handshakesRefused: UInt64 = 0
    package var connectionsOpen: UInt64 = 0
}

/// One node's counters and logger. Thread-safe; counting is one relaxed addition per frame.
final class WireReport: Sendable {
    private let framesSent = Atomic<UInt64>(0)
    private let bytesSent = Atomic<UInt64>(0)
    private let framesReceived = Atomic<UInt64>(0)
    private let bytesReceived = Atomic<UInt64>(0)
    private let messagesSent = Atomic<UInt64>(0)
    private let messagesReceived = Atomic<UInt64>(0)
    private let messagesDropped = Atomic<UInt64>(0)
    private let requests = Atomic<UInt64>(0)
    private let requestsRefused = Atomic<UInt64>(0)
    private let accepted = Atomic<UInt64>(0)
    private let faulted = Atomic<UInt64>(0)
    private let handshakesRefused = Atomic<UInt64>(0)
    private let open = Atomic<Int>(0)
    private let clients = Atomic<Int>(0)
    /// Bytes of unfinished frames of accepted connections.
    private let assembling = Atomic<Int>(0)

    private let logger: Logger
    private let limiter = Mutex(LogLimiter())

    init(logger: Logger) { self.logger = logger }

    func sent(frameOf bytes: Int) {
        framesSent.add(1, ordering: .relaxed)
        bytesSent.add(UInt64(bytes), ordering: .relaxed)
    }
    func received(frameOf bytes: Int) {
        framesReceived.add(1, ordering: .relaxed)
        bytesReceived.add(UInt64(bytes), ordering: .relaxed)
    }
    func sent(messages: Int) { messagesSent.add(UInt64(messages), ordering: .relaxed) }
    func received(messages: Int) { messagesReceived.add(UInt64(messages), ordering: .relaxed) }
    func dropped(messages: Int) { messagesDropped.add(UInt64(messages), ordering: .relaxed) }
    func received(requests count: Int) { requests.add(UInt64(count), ordering: .relaxed) }
    func refusedRequest() { requestsRefused.add(1, ordering: .relaxed) }

    /// Counts an accepted connection; the number open with it.
    func acceptedConnection() -> Int {
        accepted.add(1, ordering: .relaxed)
        return open.add(1, ordering: .relaxed).newValue
    }
    /// Counts a client; the number connected with it.
    func acceptedClient() -> Int { clients.add(1, ordering: .relaxed).newValue }
    func closedClient() { clients.subtract(1, ordering: .relaxed) }

    func closedAccepted() { open.subtract(1, ordering: .relaxed) }

    /// Adds to the bytes held for unfinished frames; the new total.
    func held(_ delta: Int) -> Int { assembling.add(delta, ordering: .relaxed).newValue }

    var statistics: TransportStatistics {
        TransportStatistics(
            framesSent: framesSent.load(ordering: .relaxed),
            bytesSent: bytesSent.load(ordering: .relaxed),
            framesReceived: framesReceived.load(ordering: .relaxed),
            bytesReceived: bytesReceived.load(ordering: .relaxed),
            messagesSent: messagesSent.load(ordering: .relaxed),
            messagesReceived: messagesReceived.load(ordering: .relaxed),
            messagesDropped: messagesDropped.load(ordering: .relaxed),
            requests: requests.load(ordering: .relaxed),
            requestsRefused: requestsRefused.load(ordering: .relaxed),
            connectionsAccepted: accepted.load(ordering: .relaxed),
            connectionsFaulted: faulted.load(ordering: .relaxed),
            handshakesRefused: handshakesRefused.load(ordering: .relaxed),
            connectionsOpen: UInt64(max(0, open.load(ordering: .relaxed))))
    }

    /// Counts and, within the limit, logs why a connection ended.
    func ended(_ error: WireError, remote: String, at now: NIODeadline) {
        switch error.kind {
        case .ended: return
        case .refused, .refusedByPeer, .dismissed, .dismissedByPeer, .told:
            handshakesRefused.add(1, ordering: .relaxed)
        case .network: break
        case .oversize, .checksum, .malformed, .timeout, .resources:
            faulted.add(1, ordering: .relaxed)
        }
        // Connections come and go with their programs: only what is wrong with them is news.
        guard error.kind != .network else {
            logger.debug("Connection with \(remote) closed: \(error.reason)")
            return
        }
        warn(error.kind, "Connection with \(remote) closed: \(error.reason)", at: now)
    }

    /// Logs at most a few lines per kind and second; the next line says how many were left out.
    func warn(_ kind: WireError.Kind, _ text: @autoclosure () -> String, at now: NIODeadline) {
        let level: Logger.Level = kind == .network ? .info : .warning
        guard logger.logLevel <= level else { return }
        guard let silenced = limiter.withLock({ $0.admit(kind, at: now) }) else { return }
        let suffix = silenced == 0 ? "" : " (\(silenced) more of this kind not logged)"
        logger.log(level: level, "\(text())\(suffix)")
    }
}

/// A bucket of log lines per kind of trouble.
struct LogLimiter {
    static let burst = 5

    private struct Bucket {
        var start: NIODeadline
        var used = 0
        var silenced = 0
    }
    private var buckets: [WireError.Kind: Bucket] = [:]

    /// How many lines were left out since the last one; nil if this one is to be left out too.
    mutating func admit(_ kind: WireError.Kind, at now: NIODeadline) -> Int? {
        var bucket = buckets[kind] ?? Bucket(start: now)
        if now - bucket.start >= .seconds(1) {
            bucket.start = now
            bucket.used = 0
        }
        defer { buckets[kind] = bucket }
        guard bucket.used < LogLimiter.burst else {
            bucket.silenced += 1
            return nil
        }
        bucket.used += 1
        let silenced = bucket.silenced
        bucket.silenced = 0
        return silenced
    }
}
