// The dialing end of a peer connection: says hello, judges the answer, then carries what this lane
// has to say to that node.
//
// While either side has no node id (before the cluster exists) the hello is said again every
// `helloInterval`; Raft messages are only sent once both hellos named their nodes.

import NIOCore
import UkehiBase
import UkehiNode

/// Who wants to know about a dialed connection.
protocol DialedSessionOwner: AnyObject {
    /// Both sides agreed; again whenever the remote hello has changed (`isNews`) or messages may
    /// be sent at last.
    func established(_ session: DialedSession, remote: Hello, isNews: Bool)
    func writable(_ session: DialedSession)
    func ended(_ session: DialedSession, reason: WireError)
}

final class DialedSession: WireSession {
    let address: String
    let purpose: ConnectionPurpose
    private let events: any TransportEvents
    private weak var owner: (any DialedSessionOwner)?
    private var said: Hello?
    private(set) var remote: Hello?
    private var isUnanswered = false
    private var hasCarried = false
    private var repeatHello: Scheduled<Void>?

    init(
        address: String, purpose: ConnectionPurpose, events: any TransportEvents,
        owner: (any DialedSessionOwner)?
    ) {
        self.address = address
        self.purpose = purpose
        self.events = events
        self.owner = owner
    }

    /// Whether Raft messages may be sent here.
    var carriesMessages: Bool { hasCarried && wire != nil }

    override func opened() throws(WireError) { sayHello() }

    private func sayHello() {
        let hello = events.localHello()
        said = hello
        isUnanswered = true
        wire?.send(.hello, Greeting(purpose: purpose, hello: hello).encode())
    }

    override func received(_ frame: Frame) throws(WireError) {
        guard frame.type == .welcome, isUnanswered else {
            throw WireError(.malformed, "an unexpected \(frame.type) frame from an acceptor")
        }
        let greeting = try Greeting(decoding: frame.payload)
        guard greeting.purpose == purpose else {
            throw WireError(.malformed, "a welcome for another purpose")
        }
        isUnanswered = false
        switch events.judge(greeting.hello, dialed: address) {
        case .accept: break
        case .refuse(let reason): throw WireError(.refused, reason)
        case .dismiss(let reason): throw WireError(.dismissed, reason)
        }
        let isNews = remote != greeting.hello
        let hasBegun = !hasCarried && said?.node != nil && greeting.hello.node != nil
        hasCarried = hasCarried || hasBegun
        remote = greeting.hello
        wire?.isEstablished = true
        if isNews || hasBegun {
            owner?.established(self, remote: greeting.hello, isNews: isNews)
        }
        if !hasCarried { scheduleHello() }
    }

    private func scheduleHello() {
        guard let wire, let loop = wire.eventLoop else { return }
        repeatHello = loop.assumeIsolated().scheduleTask(in: wire.limits.helloInterval) {
            [weak self] in self?.sayHello()
        }
    }

    override func writabilityChanged(_ isWritable: Bool) {
        if isWritable { owner?.writable(self) }
    }

    override func closed(_ reason: WireError) {
        repeatHello?.cancel()
        repeatHello = nil
        owner?.ended(self, reason: reason)
        owner = nil
    }
}
