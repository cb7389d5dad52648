//! Signing in and up, with as few questions as possible.

use std::io::{self, Write as _};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal;
use tidings_client::{ClientError, Rest};
use tidings_types::Code;
use tidings_wire::rest::{SignIn, SignUp, User};

use crate::{ChatError, ChatOptions};

/// The documented password of every demo account. It opens nothing else: `tidings serve --demo` only listens on the
/// machine itself.
const DEMO_PASSWORD: &str = "tidings-demo";
const DEVICE_NAME: &str = "terminal";
const TRIES_MAX: usize = 3;

/// The signed-in user: the session in the store if it still holds, else a new one. `may_ask`: there is a person at a
/// terminal.
pub(crate) async fn sign_in(rest: &Rest, options: &ChatOptions, may_ask: bool) -> Result<User, ChatError> {
    if let Some(tokens) = rest.tokens() {
        match rest.me().await {
            Ok(user) => return Ok(user),
            Err(ClientError::SignedOut) => {}
            // Without the server the session goes on where it was; the link will tell.
            Err(error) if error.is_temporary() => return Ok(tokens.user),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(password) = &options.password {
        return with_password(rest, options, password).await;
    }
    if is_on_this_machine(&options.server)
        && let Some(user) = try_password(rest, options, DEMO_PASSWORD).await?
    {
        return Ok(user);
    }
    if !may_ask {
        return Err(ChatError::PasswordNeeded { name: options.name.clone() });
    }
    ask(rest, options).await
}

async fn with_password(rest: &Rest, options: &ChatOptions, password: &str) -> Result<User, ChatError> {
    match try_password(rest, options, password).await? {
        Some(user) => Ok(user),
        None if options.sign_up => sign_up(rest, options, password).await,
        None => Err(ChatError::WrongPassword { name: options.name.clone() }),
    }
}

/// `None` if name and password do not fit.
async fn try_password(rest: &Rest, options: &ChatOptions, password: &str) -> Result<Option<User>, ChatError> {
    let body = SignIn {
        username: options.name.clone(),
        password: password.to_owned(),
        device_id: None,
        device_name: Some(DEVICE_NAME.into()),
    };
    match rest.sign_in(&body).await {
        Ok(tokens) => Ok(Some(tokens.user)),
        Err(error) if error.code() == Some(Code::Unauthenticated) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn sign_up(rest: &Rest, options: &ChatOptions, password: &str) -> Result<User, ChatError> {
    let body = SignUp {
        username: options.name.clone(),
        password: password.to_owned(),
        display_name: None,
        device_id: None,
        device_name: Some(DEVICE_NAME.into()),
    };
    Ok(rest.sign_up(&body).await?.user)
}

async fn ask(rest: &Rest, options: &ChatOptions) -> Result<User, ChatError> {
    for _ in 0..TRIES_MAX {
        let password = read_password(&format!("Password for {}: ", options.name))?;
        if let Some(user) = try_password(rest, options, &password).await? {
            return Ok(user);
        }
        println!("No account has this name and password.");
        if !options.sign_up && !confirm(&format!("Make a new account {}?", options.name))? {
            continue;
        }
        if read_password("The password once more: ")? != password {
            println!("The two differ.");
            continue;
        }
        match sign_up(rest, options, &password).await {
            Err(ChatError::Client(ClientError::Refused(refusal))) => println!("{}", refusal.message),
            answer => return answer,
        }
    }
    Err(ChatError::WrongPassword { name: options.name.clone() })
}

fn confirm(question: &str) -> io::Result<bool> {
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads a line that is not shown.
fn read_password(prompt: &str) -> io::Result<String> {
    print!("{prompt}");
    io::stdout().flush()?;
    terminal::enable_raw_mode()?;
    let password = read_hidden();
    terminal::disable_raw_mode()?;
    println!();
    password
}

fn read_hidden() -> io::Result<String> {
    let mut text = String::new();
    loop {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(text),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            KeyCode::Char(character) => text.push(character),
            KeyCode::Backspace => drop(text.pop()),
            _ => {}
        }
    }
}

fn is_on_this_machine(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_password_is_only_tried_on_this_machine() {
        for here in ["http://127.0.0.1:8390", "http://localhost", "http://[::1]:8390/", "http://127.9.9.9/x"]
        {
            assert!(is_on_this_machine(here), "{here}");
        }
        for there in [
            "http://chat.example:8390",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://[2001:db8::1]",
        ] {
            assert!(!is_on_this_machine(there), "{there}");
        }
    }
}
