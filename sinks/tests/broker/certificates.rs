//! Certificates for the listeners with TLS, made with openssl: an authority, a server, a client, and a server whose time
//! is over. On the test's thread.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const EXTENSIONS: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost";

/// A folder of keys and certificates, all PEM.
pub(crate) struct Certificates {
    home: PathBuf,
}

impl Certificates {
    /// Makes them all in an existing folder.
    pub(crate) fn make(home: &Path) -> Self {
        let this = Self { home: home.to_owned() };
        let key = |name: &str| this.path(&format!("{name}.key"));
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-days", "2", "-subj", "/CN=eyewitness-tests-authority"])
                .args(new_key)
                .arg("-keyout")
                .arg(key("ca"))
                .arg("-out")
                .arg(this.authority()),
        );
        for (name, subject) in [("server", "/CN=eyewitness-tests"), ("client", "/CN=eyewitness-client")] {
            openssl(
                Command::new("openssl")
                    .args(["req", "-x509", "-days", "2", "-subj", subject, "-addext", EXTENSIONS])
                    .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                    .args(new_key)
                    .arg("-CA")
                    .arg(this.authority())
                    .arg("-CAkey")
                    .arg(key("ca"))
                    .arg("-keyout")
                    .arg(key(name))
                    .arg("-out")
                    .arg(this.path(&format!("{name}.pem"))),
            );
        }
        this.make_expired();
        for name in ["server", "expired"] {
            this.write_keystore(name, name);
        }
        this
    }

    /// Only `openssl ca` takes dates: those of `req` and `x509` begin now.
    fn make_expired(&self) {
        let request = self.path("expired.csr");
        openssl(
            Command::new("openssl")
                .args(["req", "-new", "-subj", "/CN=eyewitness-tests", "-key"])
                .arg(self.path("server.key"))
                .arg("-out")
                .arg(&request),
        );
        let config = format!(
            "[ca]\ndefault_ca=tests\n[tests]\ndatabase={}\nrand_serial=yes\nnew_certs_dir={}\ndefault_md=sha256\n\
             policy=any\nx509_extensions=server\n[any]\ncommonName=supplied\n[server]\n{EXTENSIONS}\n",
            self.path("ca.index").display(),
            self.home.display()
        );
        fs::write(self.path("ca.conf"), config).expect("write ca.conf");
        fs::write(self.path("ca.index"), "").expect("write ca.index");
        openssl(
            Command::new("openssl")
                .args(["ca", "-batch", "-notext", "-startdate", "20240101000000Z", "-enddate", "20240102000000Z"])
                .arg("-config")
                .arg(self.path("ca.conf"))
                .arg("-cert")
                .arg(self.authority())
                .arg("-keyfile")
                .arg(self.path("ca.key"))
                .arg("-in")
                .arg(&request)
                .arg("-out")
                .arg(self.path("expired.pem")),
        );
        fs::copy(self.path("server.key"), self.path("expired.key")).expect("copy");
    }

    /// Kafka's keystore: key and certificate in one file.
    fn write_keystore(&self, keystore: &str, certificate: &str) {
        let read = |name: String| fs::read_to_string(self.path(&name)).expect("made by openssl");
        let content = read(format!("{certificate}.key")) + &read(format!("{certificate}.pem"));
        fs::write(self.keystore(keystore), content).expect("write keystore");
    }

    /// Puts a good certificate in the place of the expired one, for the broker's next start.
    pub(crate) fn renew_expired(&self) {
        self.write_keystore("expired", "server");
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub(crate) fn client(&self) -> PathBuf {
        self.path("client.pem")
    }

    pub(crate) fn client_key(&self) -> PathBuf {
        self.path("client.key")
    }

    /// Keystore of `server` or `expired`.
    pub(crate) fn keystore(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.keystore.pem"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }
}

fn openssl(command: &mut Command) {
    let made = command.output().expect("openssl runs: `make setup-test` installs it");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}
