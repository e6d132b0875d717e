// The accepting end of a connection: judges the hello, then receives a peer's messages or serves a
// client. Nothing but welcomes and replies is ever sent from this end: what a node has to say to a
// peer goes on the connections it dialed itself.

import NIOCore
import UkehiBase
import UkehiEnvironment
import UkehiNode

final class AcceptedSession: WireSession {
    private let events: any TransportEvents
    private let clock: any NodeClock
    /// Told the hello of each peer that connects: it is up, dial it now.
    private let heard: (Hello) -> Void
    private var purpose: ConnectionPurpose?
    private var remote: Hello?
    private var client: ClientService?
    /// Where the client is counted.
    private var report: WireReport?
    /// Messages of the current read, handed over when it ends.
    private var inbox: [RegionMessage] = []

    init(
        events: any TransportEvents, clock: any NodeClock, heard: @escaping (Hello) -> Void
    ) {
        self.events = events
        self.clock = clock
        self.heard = heard
    }

    override func received(_ frame: Frame) throws(WireError) {
        switch frame.type {
        case .hello:
            try greet(Greeting(decoding: frame.payload))
        case .messages:
            guard remote?.node != nil, purpose != .client else {
                throw WireError(.malformed, "messages from someone who did not say which node")
            }
            let before = inbox.count
            do throws(DecodeError) {
                try MessageCodec.decode(frame.payload, into: &inbox)
            } catch {
                // What came before it in this read is sound, but a sender that lies once is not
                // worth the bookkeeping: Raft repairs the loss.
                inbox.removeAll()
                throw WireError(error, in: "messages frame")
            }
            wire?.report.received(messages: inbox.count - before)
        case .bootstrap:
            guard let remote, purpose == .control else {
                throw WireError(.malformed, "a bootstrap frame outside a control connection")
            }
            events.received(control: frame.payload, from: remote)
        case .requests:
            guard let client else {
                throw WireError(.malformed, "requests from someone who is not a client")
            }
            try client.received(frame.payload)
        case .welcome, .replies, .farewell:
            throw WireError(.malformed, "a \(frame.type) frame from a dialer")
        }
    }

    private func greet(_ greeting: Greeting) throws(WireError) {
        guard purpose == nil || purpose == greeting.purpose, client == nil else {
            throw WireError(.malformed, "a second hello for another purpose")
        }
        purpose = greeting.purpose
        if greeting.purpose == .client {
            if let wire {
                let limit = wire.limits.maxClients
                client = ClientService(wire: wire, events: events, clock: clock)
                report = wire.report
                guard wire.report.acceptedClient() <= limit else {
                    throw WireError(.resources, "\(limit) clients are connected already")
                }
            }
        } else {
            flushInbox()  // Said under the earlier hello.
            switch events.judge(greeting.hello, dialed: nil) {
            case .accept: break
            case .refuse(let reason): throw WireError(.refused, reason)
            case .dismiss(let reason): throw WireError(.dismissed, reason)
            }
            let isFirst = remote == nil
            remote = greeting.hello
            wire?.isNode = greeting.hello.node != nil
            if isFirst, greeting.purpose == .control { heard(greeting.hello) }
        }
        wire?.isEstablished = true
        let welcome = Greeting(purpose: greeting.purpose, hello: events.localHello())
        wire?.send(.welcome, welcome.encode())
    }

    override func burstEnded() {
        flushInbox()
        client?.burstEnded()
    }

    private func flushInbox() {
        guard !inbox.isEmpty, let node = remote?.node else { return }
        events.received(inbox, from: node)
        inbox.removeAll(keepingCapacity: true)
    }

    override func writabilityChanged(_ isWritable: Bool) {
        // Who does not read what it is answered says nothing more: welcomes do not pile up.
        wire?.holdsReads = !isWritable
    }

    override func tick(_ now: NIODeadline) throws(WireError) { try client?.tick(now) }

    override func closed(_ reason: WireError) {
        flushInbox()
        // Only a node of this cluster can know, and none that is behind.
        let own = events.localHello()
        if reason.kind == .dismissedByPeer, let remote, remote.node != nil,
            remote.cluster != nil, remote.cluster == own.cluster,
            remote.generation >= own.generation
        {
            events.dismissed(reason.reason, by: remote.address)
        }
        guard let client else { return }
        report?.closedClient()
        client.closed()
        self.client = nil
    }
}
